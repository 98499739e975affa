"""Gridded climate fields in, tensors out: grids, variables, files, statistics, stores; no ``emulator`` in here."""
