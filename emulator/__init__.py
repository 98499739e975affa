"""Neural weather emulation with a fair, significance-tested comparison against physics."""

__version__ = "0.1.0"
