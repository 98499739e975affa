"""Gridded climate fields in, tensors out: grids, variables, files, statistics, stores. Imports nothing of ``emulator``."""
