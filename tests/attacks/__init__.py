"""Attacks on the program: long ones by ``scripts/attack.py``, short ones in the tests; see docs/reliability.md."""
