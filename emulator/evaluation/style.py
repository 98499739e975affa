"""How forecasters and variables look, the same in every plot: colours, line styles, labels, units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Okabe and Ito (2008): distinguishable with every common form of colour blindness.
_BLACK, _ORANGE, _SKY, _GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
_YELLOW, _BLUE, _VERMILION, _PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"

_FIXED = {
    "network": (_VERMILION, "-"),
    "persistence": ("#777777", ":"),
    "anomaly_persistence": ("#777777", "--"),
    "damped_anomaly_persistence": ("#777777", "-."),
    "climatology": (_BLACK, (0, (6, 3))),
    "twin": (_GREEN, "--"),
}
_PHYSICS = (_BLUE, _SKY, _PURPLE)
_OTHERS = (_GREEN, _ORANGE, _PURPLE, _YELLOW)

_SHORT = {
    "geopotential": "Z",
    "temperature": "T",
    "u_component_of_wind": "U",
    "v_component_of_wind": "V",
    "specific_humidity": "Q",
}
_LONG = {
    "2m_temperature": "Near-surface temperature",
    "mean_sea_level_pressure": "Mean sea-level pressure",
    "surface_pressure": "Surface pressure",
    "total_precipitation_6hr": "Precipitation in 6 h",
}


@dataclass(frozen=True)
class Unit:
    """A unit as people read it: shown = SI value x factor."""

    factor: float
    label: str


def is_physics(name: str) -> bool:
    """Whether a forecaster is a physics baseline, by its name (``physics_t21``)."""
    return name.startswith("physics")


def line_styles(names: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """Colour and dash of each forecaster; a name's look depends on its family and its place in it, not on the plot."""
    out: dict[str, tuple[str, Any]] = {}
    physics, others = iter(_PHYSICS * len(names)), iter(_OTHERS * len(names))
    for name in names:
        if name in _FIXED:
            out[name] = _FIXED[name]
        else:
            out[name] = (next(physics), "-") if is_physics(name) else (next(others), "-")
    return out


def forecaster_label(name: str) -> str:
    """``physics_t21`` to ``Physics T21``."""
    words = name.split("_")
    return " ".join([words[0].capitalize(), *(w.upper() if w[:1] == "t" and w[1:].isdigit() else w for w in words[1:])])


def variable_label(name: str) -> str:
    """``geopotential@500`` to ``Z500``; surface fields in words; model levels as ``T at sigma 0.95``."""
    variable, _, level = name.partition("@")
    if not level:
        return _LONG.get(variable, variable.replace("_", " ").capitalize())
    short = _SHORT.get(variable, variable.replace("_", " ").capitalize() + " ")
    return f"{short}{level}" if float(level) > 1 else f"{short.strip()} at sigma {level}"


def shown_unit(name: str, si: str) -> Unit:
    """The unit in which a variable is shown: hPa, g/kg, mm; SI otherwise."""
    variable = name.partition("@")[0]
    if si == "Pa":
        return Unit(0.01, "hPa")
    if variable == "specific_humidity":
        return Unit(1000.0, "g/kg")
    if variable.startswith("total_precipitation"):
        return Unit(1000.0, "mm")
    return Unit(1.0, {"m2 s-2": "m²/s²", "m s-1": "m/s", "1": ""}.get(si, si))
