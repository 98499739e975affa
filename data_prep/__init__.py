"""Gridded climate fields in, tensors out: grids, variables, files, statistics, stores; no ``emulator`` in here.

``pipeline.prepare`` makes a store, ``store.open_store`` opens it, ``inspect.inspect_files`` says what files hold.
"""
