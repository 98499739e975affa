"""Gridded climate fields in, tensors out: grids, variables, files, statistics, stores; no ``emulator`` in here.

``preparation.pipeline.prepare`` makes a store, ``preparation.store.open_store`` opens it, and
``inspection.report.inspect_files`` says what files hold.
"""
