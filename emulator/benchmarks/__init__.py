"""What ``scripts/benchmark.py`` measures. A benchmark is a file with ``add_arguments(parser)`` and ``run(arguments)``.

Each makes one table: the machine, what was reached, the ceiling that was measured in the same run, and the ratio.
"""
