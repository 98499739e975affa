"""Gridded climate fields in, tensors out: grids, variables, files, statistics, stores; knows nothing of ``emulator``."""
