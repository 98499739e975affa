"""Neural weather emulation with a fair, significance-tested comparison against physics.

From Python: ``open_store``, ``load_forecaster``, ``SeveralNetworks``, ``predict``, ``score``, ``plot``; they raise
``UserError``. Each is imported when it is first asked for, so ``import emulator`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from data_prep.errors import UserError
    from data_prep.preparation.store import open_store
    from emulator.api import plot, predict, score
    from emulator.checkpoint import load_forecaster
    from emulator.forecasters.several import SeveralNetworks

__all__ = ["SeveralNetworks", "UserError", "__version__", "load_forecaster", "open_store", "plot", "predict", "score"]

_HOMES = {
    "SeveralNetworks": "emulator.forecasters.several",
    "UserError": "data_prep.errors",
    "load_forecaster": "emulator.checkpoint",
    "open_store": "data_prep.preparation.store",
    "plot": "emulator.api",
    "predict": "emulator.api",
    "score": "emulator.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'emulator' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
