"""The full-physics model: SPEEDY on the dinosaur spectral core, both through ``jcm`` (extra ``physics``).

Everything that touches ``jcm`` lives in this package, and nothing of the core imports it at module level.
"""
