"""How forecasters and variables look, the same in every plot: colours, line styles, labels, units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.variables import is_accumulation
from emulator.evaluation.forecaster_names import NAME, is_physics, is_twin, physics_form

# Okabe and Ito (2008): distinguishable with every common form of colour blindness. Their yellow is left out, which
# does not show on white paper; dashes tell more forecasters apart than there are colours.
_BLACK, _ORANGE, _SKY, _GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
_BLUE, _VERMILION, _PURPLE, _GREY = "#0072B2", "#D55E00", "#CC79A7", "#777777"

_SOLID, _DASHED, _DOTTED, _MIXED = "-", (0, (5, 2)), (0, (1, 1.6)), (0, (6, 2, 1.2, 2))
_FIXED = {
    "network": (_VERMILION, _SOLID),
    "network_debiased": (_VERMILION, _DASHED),
    "network_damped": (_VERMILION, _MIXED),
    "network_ensemble": (_VERMILION, _DOTTED),
    "persistence": (_GREY, _DOTTED),
    "anomaly_persistence": (_GREY, _DASHED),
    "damped_anomaly_persistence": (_GREY, _MIXED),
    "linear_pcs": (_BLACK, _MIXED),
    "climatology": (_BLACK, _DASHED),
}
_WORDS = {"linear_pcs": "Linear regression on PCs", "network_ensemble": "Network ensemble mean"}
_FAMILIES = {"physics": (_BLUE, _SKY, _PURPLE), "twin": (_GREEN,)}
_FORMS = {
    "": ("", _SOLID),
    "debiased": ("debiased", _DASHED),
    "damped": ("damped", _MIXED),
    "ensemble": ("ensemble mean", _DOTTED),
}
# Orange is never solid, as the network's vermilion is, from which few can tell it.
_OTHERS = [
    *((_PURPLE, _SOLID), (_SKY, _SOLID), (_ORANGE, _DASHED)),
    *((_PURPLE, _DASHED), (_SKY, _DASHED), (_ORANGE, _MIXED)),
    *((_PURPLE, _MIXED), (_SKY, _MIXED), (_ORANGE, _DOTTED)),
]

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
HOURS_BELOW = 48.0
"""Lead times are told in hours below two days, in days from there on."""


@dataclass(frozen=True)
class Unit:
    """A unit as people read it: shown = SI value x factor."""

    factor: float
    label: str

    def __str__(self) -> str:
        """As it follows a name: `` (K)``; nothing where there is none."""
        return f" ({self.label})" if self.label else ""


def line_styles(names: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """Colour and dash of each forecaster.

    A model has a colour, what was made of it (debiased, damped, ensemble mean) a dash. A name's look depends on its
    family and its place in it, not on the plot; beyond a family's colours it gets what is left.
    """
    looks: dict[str, tuple[str, Any]] = {}
    models: dict[str, list[str]] = {family: [] for family in _FAMILIES}
    for name in names:
        found = NAME.fullmatch(name)
        if name in _FIXED:
            looks[name] = _FIXED[name]
        elif found:
            known, colours = models[found["family"]], _FAMILIES[found["family"]]
            if found["model"] not in known:
                known.append(found["model"])
            place = known.index(found["model"])
            if place < len(colours):
                looks[name] = (colours[place], _FORMS[found["form"] or ""][1])
    free = [look for look in _OTHERS if look not in looks.values()]
    others = iter(free * len(names))
    return {name: looks[name] if name in looks else next(others) for name in names}


def forecaster_label(name: str) -> str:
    """``physics_t21_damped`` to ``Physics T21 damped``; what others call their models stays as it is written."""
    found = NAME.fullmatch(name)
    if found:
        which = re.sub(r"^t(?=\d+(_|$))", "T", found["which"] or "").replace("_", " ")
        return " ".join(filter(None, (found["family"].capitalize(), which, _FORMS[found["form"] or ""][0])))
    return _WORDS.get(name, name.replace("_", " ").capitalize()) if name in _FIXED else name.replace("_", " ")


def limit_label(name: str) -> str:
    """Whom a share of the gap is measured to. The limit is the mean of the twin's ensemble, not one run of it."""
    is_single = is_twin(name) and physics_form(name) != "ensemble"
    what = "a single run of the truth's own model" if is_single else "the predictability limit"
    return f"{what} ({forecaster_label(name)})"


def default_lines(names: Sequence[str], *always: str) -> list[str]:
    """Whom a picture of many forecasters shows unless asked otherwise, in the order of ``names``.

    Those of ``always``, network and physics models as they are and damped, the best twin (the ensemble mean where there
    is one), climatology, persistence, and everybody else's models; without physics the hardest of the simple references
    too.
    """
    twins = [n for n in names if is_twin(n)]
    best_twin = ([n for n in twins if physics_form(n) == "ensemble"] or twins)[:1]
    left_out = {"anomaly_persistence", "network_debiased"}
    if any(map(is_physics, names)):
        left_out.add("damped_anomaly_persistence")
    left_out |= {n for n in names if is_physics(n) and physics_form(n) not in ("", "damped")}
    left_out |= {n for n in twins if n not in best_twin}
    return [n for n in names if n in always or n not in left_out]


def variable_label(name: str) -> str:
    """``geopotential@500`` to ``Z500``; surface fields in words; model levels as ``T at sigma 0.95``."""
    variable, _, level = name.partition("@")
    if not level:
        return _LONG.get(variable, variable.replace("_", " ").capitalize())
    short = _SHORT.get(variable, variable.replace("_", " ").capitalize() + " ")
    return f"{short}{level}" if float(level) >= 1 else f"{short.strip()} at sigma {level}"


def region_label(name: str) -> str:
    """``northern_extratropics`` to ``northern extratropics``, ``europe`` to ``Europe``; ``all`` is the whole grid."""
    return {"all": "whole grid", "europe": "Europe", "north_america": "North America"}.get(name, name.replace("_", " "))


def listed(texts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(part for part in (", ".join(texts[:-1]), texts[-1]) if part)


def lead_text(hours: float) -> str:
    """A lead time in words: hours below two days, days from there on."""
    if f"{hours:.0f}" == "1":
        return "1 hour"
    return f"{hours:.0f} hours" if hours < HOURS_BELOW else f"{f'{hours / 24:.1f}'.removesuffix('.0')} days"


def number_text(value: float) -> str:
    """Three digits, from a thousand on all that stand before the point."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"  # 999.6 of three digits is 1e+03


def shown_unit(name: str, si: str) -> Unit:
    """The unit in which a variable is shown: hPa, g/kg, mm, 1e-5 s-1; SI otherwise."""
    variable = name.partition("@")[0]
    if si == "Pa":
        return Unit(0.01, "hPa")
    if variable == "specific_humidity":
        return Unit(1000.0, "g/kg")
    if is_accumulation(variable):
        return Unit(1000.0, "mm")
    if variable == "vorticity":
        return Unit(1e5, "10⁻⁵ s⁻¹")
    return Unit(1.0, {"m2 s-2": "m²/s²", "m s-1": "m/s", "1": ""}.get(si, si))
