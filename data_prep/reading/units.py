"""Units as files spell them, turned into SI: pint, taught the spellings of UDUNITS, GRIB and COARDS files.

Two changes of dimension are the field's own and known here: heights in (geopotential) metres become geopotential, and
kilograms of water per square metre become metres of water.
"""

from __future__ import annotations

import math
import re
import tokenize
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from data_prep.errors import DataError
from data_prep.variables import GRAVITY, is_accumulation, known

if TYPE_CHECKING:
    import pint

_WATER_DENSITY = 1000.0
"""Density of liquid water in kg m-3, by which CF defines the liquid water equivalent of an amount."""

_NO_UNIT = (
    *("", "-", "~", "none", "fraction", "dimensionless", "proportion"),
    *("(0 - 1)", "(0-1)", "0 - 1", "0-1", "0/1", "[0,1]", "[0, 1]", "[0-1]", "[0 - 1]"),
)
_DEGREES = re.compile(r"deg(?:rees?)?[ _]?(?:(k|kelvin)|c|celsius)", re.I)  # pint would read an angle times a kelvin
_CELSIUS = re.compile(r"(?:k|kelvin) ?@ ?273\.15", re.I)  # as UDUNITS has it: counted from there
_SUM = re.compile(r"\d\s*[+-]\s*\d")  # a range such as 0-100, or 10-3 for a power: pint would work it out
_WORDS = {"m of water equivalent": "m", "meters of water equivalent": "m", "numeric": "1"}

# By SI unit, what pint knows how to get there from another dimension.
_CONTEXTS = {"m2 s-2": "heights", "m": "water"}

# SI units that a variable without an entry of its own is turned into; anything else keeps the unit of its file.
_TARGETS = ("K", "Pa", "m s-1", "W m-2")


_HEIGHTS = ("gh", "zg", "hgt", "hgtprs", "hgtsfc", "orog", "oro", "geopotential_height")
"""What geopotential, or that of the surface, is called as a height, by which it is in metres where no unit is given."""


@dataclass(frozen=True)
class Conversion:
    """How a file's values become SI: ``factor * value + offset``, in ``units``."""

    units: str
    factor: float = 1.0
    offset: float = 0.0

    @property
    def changes(self) -> bool:
        """Whether values become others by it."""
        return self != Conversion(self.units)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Values that become others in double precision, so that the same ones in another unit come out the same."""
        return values.astype(np.float64) * self.factor + self.offset if self.changes else values

    def then(self, other: Conversion) -> Conversion:
        """This one, and another after it."""
        return Conversion(other.units, self.factor * other.factor, self.offset * other.factor + other.offset)


def unit_of(variable: xr.DataArray) -> str | None:
    """The unit that a file gives to a variable, or that its name does; ``None`` where neither does."""
    return variable.attrs.get("units", "gpm" if str(variable.name).lower() in _HEIGHTS else None)


def conversion(name: str, units: str | None, where: str) -> Conversion:
    """From the unit that a file gives to SI.

    Args:
      name: Canonical name.
      units: The file's ``units`` attribute, ``None`` where there is none: SI is then taken for granted (the check of
        possible values stands behind it).
      where: File and variable, for the message.

    Raises:
      DataError: a known variable comes in a unit that cannot be turned into its own.
    """
    entry = known(name)
    if units is None:
        return Conversion(entry.units if entry else "1")
    spelling = " ".join(str(units).split())
    if entry is not None:
        found = _between(spelling, entry.units)
        if found is None:
            rate = is_accumulation(name) and any(_between(spelling, u) for u in ("kg m-2 s-1", "m s-1"))
            hint = "; it is a rate: multiply it by the length of its interval, in the unit's own time" if rate else ""
            raise DataError(
                f"{where}: unit {spelling!r} of {name} cannot be turned into {entry.units}{hint or _MEND_UNIT}"
            )
        return found
    for target in _TARGETS:
        found = _between(spelling, target, same_dimension=True)
        if found is not None:
            return found
    ratio = _between(spelling, "kg kg-1", same_dimension=True) if "kg" in spelling else None
    if ratio is not None:  # dimensionless, but a mass of something per mass of air
        return ratio
    return Conversion("1" if spelling.lower() in _NO_UNIT else spelling)


_LONGEST = 200
_WATER = re.compile(r"prec(?!ipitable)|pr?cp|prate|(?<![a-z])rain|snow_?fall|evap|run_?off", re.I)
_HELD = re.compile(r"total_column|vertical_integral|content|rain_water|(fraction|type|flag)$", re.I)
# ECMWF, CMIP, E-OBS, PRISM and CRU; for units of water alone
_SHORT_WATER = re.compile(r"pr|prc|prsn|pre|ppt|rr|cp|lsp|sf|ro|e|pet|pev|rnof|mrro|mrros|evspsbl", re.I)
_MEND_UNIT = "; set its units attribute to what the values are in"


def convertible(units: str, target: str) -> Conversion | None:
    """From one unit to another of the same dimension; ``None`` where they differ in it or a spelling is unknown."""
    return _between(" ".join(units.split()), target, same_dimension=True)


def can_become(units: str, target: str) -> bool:
    """Whether ``conversion`` turns one unit into the other, be it by a change of dimension that the field knows."""
    return _between(" ".join(units.split()), target) is not None


def is_flux(name: str, standard_name: str, units: str) -> bool:
    """Whether a variable is energy or water that passes a surface: what a state causes, and does not consist of.

    Rates tell by their unit (W m-2, kg m-2 s-1), and so does energy (J m-2) unless the name says that it is held; of
    lengths of water and their rates the name must say that they fall, run off or evaporate.

    Args:
      name: Canonical name, or that of the file where the program knows none.
      standard_name: CF's, empty where the file gives none.
      units: As ``conversion`` gives them.
    """
    both = f"{name} {standard_name}"
    if _HELD.search(both):
        return False
    if any(convertible(units, unit) is not None for unit in ("W m-2", "J m-2", "kg m-2 s-1")):
        return True
    if units == "1":
        return _WATER.search(standard_name) is not None  # a share or a number may have any name
    of_water = any(convertible(units, unit) is not None for unit in ("m", "m s-1", "kg m-2"))
    return of_water and bool(_WATER.search(both) or _SHORT_WATER.fullmatch(name))


def is_amount(name: str, standard_name: str, units: str) -> bool:
    """Whether a flux comes as what has passed over an interval, and not as a rate; arguments as of ``is_flux``."""
    amount = any(convertible(units, unit) is not None for unit in ("J m-2", "m", "kg m-2"))
    return amount and is_flux(name, standard_name, units)


def is_direction(name: str, standard_name: str, units: str) -> bool:
    """Whether values go round a circle: angles that a name calls a direction; slopes and zenith angles do not."""
    of_angle = re.fullmatch(r"1?|deg(ree)?s?([ _](true|t|from north))?|°|rad(ian)?s?", units.strip(), re.I)
    called = re.search(r"direction|azimuth|(wind|wave|w|^)_?dir(?![a-z])|^(dd|mwd|wd|mdww)$", name, re.I)
    return bool(of_angle) and (called is not None or standard_name.endswith("direction"))


@cache
def _between(spelling: str, target: str, *, same_dimension: bool = False) -> Conversion | None:
    registry = _registry()
    source, goal = _parse(spelling), _parse(target)
    if source is None or goal is None:
        return None
    contexts = (_CONTEXTS[target],) if target in _CONTEXTS and not same_dimension else ()
    try:
        zero, one = (registry.Quantity(x, source.units).to(goal.units, *contexts).magnitude for x in (0.0, 1.0))
    except _no_unit_errors():
        return None
    # Fifteen digits: 100 rather than 99.99999999999999 for a hectopascal, and 273.15 rather than 273.15 + 5e-14.
    try:
        scale = source.magnitude / goal.magnitude  # the unit of a file may be 1e-3
        factor, offset = (float(f"{x:.15g}") for x in ((one - zero) * scale, zero / goal.magnitude))
    except _no_unit_errors():
        return None
    return Conversion(target, factor, offset) if factor and math.isfinite(factor) and math.isfinite(offset) else None


def _parse(spelling: str) -> pint.Quantity | None:
    if len(spelling) > _LONGEST:  # pint would think about it for longer than anybody waits
        return None
    text = _WORDS.get(spelling, "1" if spelling.lower() in _NO_UNIT else spelling)
    if _SUM.search(text):
        return None
    if _CELSIUS.fullmatch(text):
        text = "degree_Celsius"
    if "@" in text:  # from elsewhere, or a time; pint would multiply
        return None
    if degrees := _DEGREES.fullmatch(text):
        text = "kelvin" if degrees[1] else "degree_Celsius"
    for attempt in dict.fromkeys((text, text.lower())):
        try:
            parsed = _registry().parse_expression(attempt)
        except _no_unit_errors():
            continue
        return parsed if isinstance(parsed, _registry().Quantity) else _registry().Quantity(parsed)
    return None


@cache
def _no_unit_errors() -> tuple[type[Exception], ...]:
    """What pint raises on text that is no unit, or not one that can be converted."""
    from pint.errors import PintError

    of_python = (ArithmeticError, AssertionError, AttributeError, RecursionError, SyntaxError, TypeError, ValueError)
    return PintError, tokenize.TokenError, *of_python


@cache
def _registry() -> pint.UnitRegistry:
    import pint  # slow to import, and training meets no units

    registry: pint.UnitRegistry = pint.UnitRegistry(preprocessors=[_udunits_powers, _percent], on_redefinition="ignore")
    registry.define("mb = 100 * pascal")  # pint would read milli-barn
    registry.define("gpm = meter")
    registry.define("gpdm = decameter")
    # Without the alias, pint would read C as coulomb.
    for alias in ("C", "Celsius"):
        registry.define(f"@alias degree_Celsius = {alias}")
    registry.define("@alias kelvin = Kelvin")
    for name, law in (
        ("heights", f"[length] -> [length] ** 2 / [time] ** 2: value * {GRAVITY} * meter / second ** 2"),
        ("water", f"[mass] / [length] ** 2 -> [length]: value / ({_WATER_DENSITY} * kilogram / meter ** 3)"),
    ):
        registry.load_definitions([f"@context {name}", law, "@end"])
    return registry


def _udunits_powers(text: str) -> str:
    """``m2 s-2``, MERRA-2's ``m+2 s-2`` and ``mm/6h`` as pint writes them: ``m**2 s**-2``, ``mm/(6h)``."""
    text = re.sub(r"(?<=[A-Za-z])\+(?=\d)", "", text)
    text = re.sub(r"/ ?(\d+ ?(?:h|d|s|min)[a-z]*)$", r"/(\1)", text)  # CRU-JRA's mm/6h is per six hours, not h mm / 6
    return re.sub(r"(?<=[A-Za-z])(?=-?\d)(?<![\d.][eE])", "**", text)


def _percent(text: str) -> str:
    return text.replace("%", " percent ")
