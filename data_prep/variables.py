"""What the program knows of variables beforehand: SI units, standard names, possible values, what files call them.

A variable that is not listed may be used under any name; its unit is then what its files say, turned into SI.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

GRAVITY = 9.80665
"""Standard gravity in m s-2 (WMO), by which geopotential metres are defined."""

WINDS = ("u_component_of_wind", "v_component_of_wind")

UPPER_AIR = (*WINDS, "temperature", "specific_humidity")
"""What SPEEDY has on its sigma levels, in the order of its files."""

SURFACE = "geopotential_at_surface"
"""What the fields on sigma levels stand on."""


@dataclass(frozen=True)
class Facts:
    """What is known of a variable.

    Attributes:
      units: SI unit.
      standard_name: CF standard name, empty where CF has none.
      lowest, highest: The range that a field in this unit cannot leave.
      on_levels: Whether it lives on levels of pressure or sigma.
      spellings: Names that files give it, lower case: GRIB short names, CMIP, NCEP, MERRA-2, NCL, GrADS and THREDDS.
      standard_names: Other CF standard names that mean it, such as a height for a geopotential.
      height: Metres above ground for a field at a fixed height, by which 2 m temperature is told from others.
      slow: Whether it may stay the same from one step to the next (sea surface, ice, soil).
    """

    units: str
    standard_name: str
    lowest: float
    highest: float
    on_levels: bool = False
    spellings: tuple[str, ...] = ()
    standard_names: tuple[str, ...] = ()
    height: float | None = None
    slow: bool = False


_TEMPERATURE = (50.0, 400.0)  # in its polar night SPEEDY's top layer cools to 108 K, and a forecast may overshoot
_FRACTION = (-0.01, 1.01)
_WIND = (-300.0, 300.0)

KNOWN: dict[str, Facts] = {
    "temperature": Facts(
        "K",
        "air_temperature",
        *_TEMPERATURE,
        on_levels=True,
        spellings=("t", "ta", "air", "tmp", "temp", "tmpprs", "temperature_isobaric", "air_temperature"),
    ),
    "u_component_of_wind": Facts(
        "m s-1",
        "eastward_wind",
        *_WIND,
        on_levels=True,
        spellings=("u", "ua", "uwnd", "ugrd", "ugrdprs", "u-component_of_wind_isobaric", "eastward_wind"),
    ),
    "v_component_of_wind": Facts(
        "m s-1",
        "northward_wind",
        *_WIND,
        on_levels=True,
        spellings=("v", "va", "vwnd", "vgrd", "vgrdprs", "v-component_of_wind_isobaric", "northward_wind"),
    ),
    "wind_speed": Facts("m s-1", "wind_speed", 0.0, 500.0, on_levels=True),
    "vorticity": Facts("s-1", "atmosphere_relative_vorticity", -1e-2, 1e-2, on_levels=True),
    "specific_humidity": Facts(
        "kg kg-1",
        "specific_humidity",
        -1e-2,
        0.1,
        on_levels=True,
        spellings=("q", "hus", "shum", "spfh", "spfhprs", "qv", "specific_humidity_isobaric"),
    ),
    "geopotential": Facts(
        "m2 s-2",
        "geopotential",
        -2e4,
        1e6,
        on_levels=True,
        spellings=("z", "zg", "hgt", "gh", "h", "hgtprs", "geopotential_height", "geopotential_height_isobaric"),
        standard_names=("geopotential_height",),
    ),
    "vertical_velocity": Facts(
        "Pa s-1",
        "lagrangian_tendency_of_air_pressure",
        -100.0,
        100.0,
        on_levels=True,
        spellings=("w", "wap", "omega", "vvel", "vvelprs"),
    ),
    "2m_temperature": Facts(
        "K",
        "air_temperature",
        *_TEMPERATURE,
        spellings=("t2m", "2t", "tas", "t2", "tmp2m", "t", "air", "tmp", "temperature_height_above_ground"),
        height=2.0,
    ),
    "2m_dewpoint_temperature": Facts(
        "K", "dew_point_temperature", *_TEMPERATURE, spellings=("d2m", "2d", "dpt", "tdps"), height=2.0
    ),
    "10m_u_component_of_wind": Facts(
        "m s-1",
        "eastward_wind",
        *_WIND,
        spellings=("u10", "10u", "uas", "u10m", "ugrd10m", "u", "uwnd", "ugrd"),
        height=10.0,
    ),
    "10m_v_component_of_wind": Facts(
        "m s-1",
        "northward_wind",
        *_WIND,
        spellings=("v10", "10v", "vas", "v10m", "vgrd10m", "v", "vwnd", "vgrd"),
        height=10.0,
    ),
    "surface_pressure": Facts(
        "Pa", "surface_air_pressure", 3e4, 1.2e5, spellings=("sp", "ps", "pres", "pressfc", "pressure_surface")
    ),
    "mean_sea_level_pressure": Facts(
        "Pa",
        "air_pressure_at_mean_sea_level",
        8e4,
        1.2e5,
        spellings=("msl", "psl", "slp", "mslp", "prmsl", "prmslmsl", "pressure_reduced_to_msl_msl"),
        standard_names=("air_pressure_at_sea_level",),
    ),
    "total_column_water_vapour": Facts(
        "kg m-2", "atmosphere_mass_content_of_water_vapor", -1.0, 150.0, spellings=("tcwv", "prw", "tqv")
    ),
    "total_cloud_cover": Facts("1", "cloud_area_fraction", *_FRACTION, spellings=("tcc", "clt")),
    "geopotential_at_surface": Facts(
        "m2 s-2",
        "surface_geopotential",
        -2e4,
        1e5,
        spellings=("z", "phis", "orog", "hgt", "hgtsfc", "oro"),
        standard_names=("surface_altitude", "geopotential"),
        slow=True,
    ),
    "land_sea_mask": Facts(
        "1",
        "land_binary_mask",
        *_FRACTION,
        spellings=("lsm", "sftlf", "land"),  # not lsmask: OISST's is 1 at sea
        standard_names=("land_area_fraction",),
        slow=True,
    ),
    "sea_surface_temperature": Facts(
        "K", "sea_surface_temperature", *_TEMPERATURE, spellings=("sst", "tos"), slow=True
    ),
    "sea_ice_cover": Facts(
        "1", "sea_ice_area_fraction", *_FRACTION, spellings=("siconc", "sic", "ci", "icec"), slow=True
    ),
    "soil_temperature": Facts("K", "soil_temperature", *_TEMPERATURE, slow=True),
    "soil_water": Facts("1", "", *_FRACTION, slow=True),
    "albedo": Facts("1", "surface_albedo", *_FRACTION, slow=True),
}

PRECIPITATION = Facts(
    "m",
    "lwe_thickness_of_precipitation_amount",
    -0.1,
    5.0,
    spellings=("tp", "total_precipitation", "apcp", "apcpsfc"),
    standard_names=("precipitation_amount",),
)

# Where variables without an entry usually lie, by SI unit; potential temperatures, anomalies and differences need not.
_RANGE_BY_UNIT: dict[str, tuple[float, float]] = {
    "K": _TEMPERATURE,
    "m s-1": (-500.0, 500.0),
    "kg kg-1": (-1e-2, 0.1),
    "Pa": (-1e3, 1.2e5),
}

# Words in the name of a variable without an entry that say that it may stay the same from one step to the next.
_SLOW_WORDS = ("sea", "sst", "ice", "snow", "soil", "land", "lake", "ocean", "vegetation", "albedo", "mask", "orog")


def known(name: str) -> Facts | None:
    """What is known of a variable; ``total_precipitation_*`` stands for any interval."""
    return PRECIPITATION if is_accumulation(name) else KNOWN.get(name)


def is_accumulation(name: str) -> bool:
    """Whether values belong to the interval that ends at the time stamp, and add up over longer intervals."""
    return name.startswith("total_precipitation")


def accumulation_hours(name: str) -> float | None:
    """Hours of the interval that the name of a sum states, 24 for ``total_precipitation_24hr``; ``None`` if none."""
    match = re.fullmatch(r"total_precipitation_(\d+)hr", name)
    return float(match[1]) if match else None


def possible_range(name: str, units: str) -> tuple[float, float]:
    """Values that the variable cannot leave, in SI; infinite where it has no entry."""
    return usual_range(name, units) if known(name) is not None else (-float("inf"), float("inf"))


def usual_range(name: str, units: str) -> tuple[float, float]:
    """Likewise, and of a variable without an entry where those in its unit usually lie."""
    entry = known(name)
    if entry is not None:
        return entry.lowest, entry.highest
    return _RANGE_BY_UNIT.get(units, (-float("inf"), float("inf")))


def has_usual_range(units: str) -> bool:
    """Whether there is such a range of variables without an entry."""
    return units in _RANGE_BY_UNIT


def changes_every_step(name: str, units: str) -> bool:
    """Whether the same field twice in a row is a defect: true of what moves with the air, not of sea, ice and soil.

    Args:
      name: Canonical name, or that of the file where the program knows none.
      units: SI unit. Of variables without an entry only those in the units of wind, temperature and pressure count.
    """
    entry = known(name)
    if entry is not None:
        return not entry.slow and not is_accumulation(name)
    return has_usual_range(units) and not any(word in name.lower() for word in _SLOW_WORDS)


def tells_orientation(name: str, units: str) -> bool:
    """Whether a field that is turned north to south shows by itself: true of what the program knows, be it slow or not.

    Sums need not resemble those before them, and of what the program does not know nobody can say what it is like.
    """
    return not is_accumulation(name) and (known(name) is not None or changes_every_step(name, units))


def is_never_uniform(name: str, units: str) -> bool:
    """Whether one value everywhere is a defect: true of the winds, temperatures and pressures that the program knows.

    Clouds and rain may be absent from a region, and humidity from the levels of a packed file.
    """
    return known(name) is not None and changes_every_step(name, units) and units in ("K", "Pa", "m s-1", "m2 s-2")
