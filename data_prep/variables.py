"""What the program knows of variables beforehand: SI units, CF standard names, possible values, and spellings of units.

A variable that is not listed may be used under any name; its unit is then what its files say, turned into SI.
"""

from __future__ import annotations

from dataclasses import dataclass

from data_prep.errors import DataError

GRAVITY = 9.80665
"""Standard gravity in m s-2 (WMO), by which geopotential metres are defined."""


@dataclass(frozen=True)
class Facts:
    """Unit, CF standard name and the range that a field in this unit cannot leave."""

    units: str
    standard_name: str
    lowest: float
    highest: float


_TEMPERATURE = (100.0, 400.0)
_FRACTION = (-0.01, 1.01)

KNOWN: dict[str, Facts] = {
    "temperature": Facts("K", "air_temperature", *_TEMPERATURE),
    "2m_temperature": Facts("K", "air_temperature", *_TEMPERATURE),
    "sea_surface_temperature": Facts("K", "sea_surface_temperature", *_TEMPERATURE),
    "soil_temperature": Facts("K", "soil_temperature", *_TEMPERATURE),
    "u_component_of_wind": Facts("m s-1", "eastward_wind", -300.0, 300.0),
    "v_component_of_wind": Facts("m s-1", "northward_wind", -300.0, 300.0),
    "wind_speed": Facts("m s-1", "wind_speed", 0.0, 500.0),
    "vorticity": Facts("s-1", "atmosphere_relative_vorticity", -1e-2, 1e-2),
    "10m_u_component_of_wind": Facts("m s-1", "eastward_wind", -300.0, 300.0),
    "10m_v_component_of_wind": Facts("m s-1", "northward_wind", -300.0, 300.0),
    "specific_humidity": Facts("kg kg-1", "specific_humidity", -1e-2, 0.1),
    "geopotential": Facts("m2 s-2", "geopotential", -2e4, 1e6),
    "geopotential_at_surface": Facts("m2 s-2", "surface_geopotential", -2e4, 1e5),
    "surface_pressure": Facts("Pa", "surface_air_pressure", 3e4, 1.2e5),
    "mean_sea_level_pressure": Facts("Pa", "air_pressure_at_mean_sea_level", 8e4, 1.2e5),
    "land_sea_mask": Facts("1", "land_binary_mask", *_FRACTION),
    "sea_ice_cover": Facts("1", "sea_ice_area_fraction", *_FRACTION),
    "soil_water": Facts("1", "", *_FRACTION),
    "albedo": Facts("1", "surface_albedo", *_FRACTION),
}

_PRECIPITATION = Facts("m", "lwe_thickness_of_precipitation_amount", -0.1, 5.0)

# Range of variables without an entry, by SI unit: what no field on Earth leaves.
_RANGE_BY_UNIT: dict[str, tuple[float, float]] = {
    "K": _TEMPERATURE,
    "m s-1": (-500.0, 500.0),
    "kg kg-1": (-1e-2, 0.1),
    "Pa": (-1e3, 1.2e5),
}

# SI unit -> spelling -> (factor, offset): SI = factor * value + offset.
_SPELLINGS: dict[str, dict[str, tuple[float, float]]] = {
    "K": {
        **dict.fromkeys(("K", "degK", "deg_K", "kelvin", "Kelvin"), (1.0, 0.0)),
        **dict.fromkeys(("degC", "deg_C", "C", "°C", "celsius", "Celsius", "degrees_celsius"), (1.0, 273.15)),
    },
    "Pa": {
        **dict.fromkeys(("Pa", "pascal", "pascals", "N m-2"), (1.0, 0.0)),
        **dict.fromkeys(("hPa", "mb", "mbar", "millibar", "millibars", "hectopascal"), (100.0, 0.0)),
        "kPa": (1000.0, 0.0),
    },
    "m s-1": {
        **dict.fromkeys(("m s-1", "m s**-1", "m s^-1", "m/s", "meter second-1"), (1.0, 0.0)),
        **dict.fromkeys(("knots", "knot", "kt"), (1852 / 3600, 0.0)),
        **dict.fromkeys(("km h-1", "km/h"), (1 / 3.6, 0.0)),
    },
    "kg kg-1": {
        **dict.fromkeys(("kg kg-1", "kg kg**-1", "kg kg^-1", "kg/kg", "1"), (1.0, 0.0)),
        **dict.fromkeys(("g kg-1", "g kg**-1", "g kg^-1", "g/kg"), (1e-3, 0.0)),
    },
    "m2 s-2": {
        **dict.fromkeys(("m2 s-2", "m**2 s**-2", "m^2 s^-2", "m2/s2", "m^2/s^2", "J kg-1"), (1.0, 0.0)),
        **dict.fromkeys(("gpm", "m", "metre", "meter", "metres", "meters"), (GRAVITY, 0.0)),
        **dict.fromkeys(("dam", "gpdm"), (10 * GRAVITY, 0.0)),
    },
    "m": {
        **dict.fromkeys(("m", "metre", "meter", "metres", "meters", "m of water equivalent"), (1.0, 0.0)),
        **dict.fromkeys(("mm", "kg m-2", "kg m**-2", "kg/m2", "kg m^-2"), (1e-3, 0.0)),
    },
    "W m-2": dict.fromkeys(("W m-2", "W m**-2", "W m^-2", "W/m2", "W/m^2"), (1.0, 0.0)),
    "1": {
        **dict.fromkeys(("1", "(0 - 1)", "(0-1)", "0-1", "0 - 1", "fraction", "dimensionless", "~", ""), (1.0, 0.0)),
        **dict.fromkeys(("%", "percent"), (1e-2, 0.0)),
    },
}


@dataclass(frozen=True)
class Conversion:
    """How a file's values become SI: ``factor * value + offset``, in ``units``."""

    units: str
    factor: float = 1.0
    offset: float = 0.0


def known(name: str) -> Facts | None:
    """What is known of a variable; ``total_precipitation_*`` stands for any interval."""
    return _PRECIPITATION if is_accumulation(name) else KNOWN.get(name)


def is_accumulation(name: str) -> bool:
    """Whether values belong to the interval that ends at the time stamp, and add up over longer intervals."""
    return name.startswith("total_precipitation")


def possible_range(name: str, units: str) -> tuple[float, float]:
    """Values that the variable cannot leave, in SI; infinite where nothing is known."""
    entry = known(name)
    if entry is not None:
        return entry.lowest, entry.highest
    return _RANGE_BY_UNIT.get(units, (-float("inf"), float("inf")))


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
    if entry is not None:
        if units is None:
            return Conversion(entry.units)
        spelling = " ".join(str(units).split())
        table = _SPELLINGS.get(entry.units, {entry.units: (1.0, 0.0)})
        if spelling not in table:
            raise DataError(
                f"{where}: unit {spelling!r} of {name} cannot be turned into {entry.units}; "
                f"known are {', '.join(repr(s) for s in table)}"
            )
        return Conversion(entry.units, *table[spelling])
    if units is None:
        return Conversion("1")
    spelling = " ".join(str(units).split())
    for target in ("K", "Pa", "m s-1", "kg kg-1", "W m-2"):
        if spelling in _SPELLINGS[target] and spelling != "1":
            return Conversion(target, *_SPELLINGS[target][spelling])
    return Conversion(spelling)
