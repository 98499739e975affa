"""What the names of forecasters say: ``physics_t21_damped`` is a physics model, and what was made of its forecasts."""

from __future__ import annotations

import re

SIMPLE = ("persistence", "anomaly_persistence", "damped_anomaly_persistence", "linear_pcs", "climatology")
"""References that any forecaster should beat."""

_MADE = "debiased|damped|ensemble"
NAME = re.compile(
    rf"(?P<model>(?P<family>physics|twin)(?:_(?P<which>(?!(?:{_MADE})$)[\w-]+?))?)(?:_(?P<form>{_MADE}))?"
)
"""Of a physics model or the truth's own, with what was made of its forecasts, if anything."""


def is_physics(name: str) -> bool:
    """Whether a forecaster is a physics baseline, by its name (``physics_t21_damped``, ``physics_ifs``)."""
    found = NAME.fullmatch(name)
    return found is not None and found["family"] == "physics"


def physics_form(name: str) -> str:
    """What was made of a physics forecast: ``debiased``, ``damped``, ``ensemble``; empty for the forecast itself."""
    found = NAME.fullmatch(name)
    return (found["form"] or "") if found else ""


def is_twin(name: str) -> bool:
    """Whether a forecaster is the truth's own model, by its name (``twin_t31``)."""
    found = NAME.fullmatch(name)
    return found is not None and found["family"] == "twin"


def model_of(name: str) -> str:
    """``physics_t21`` for all that was made of its forecasts; a name of another kind is its own."""
    found = NAME.fullmatch(name)
    return found["model"] if found else name
