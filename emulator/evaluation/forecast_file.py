"""Forecast files as the verification reads them: checked against the truth's grid and against each other.

Those of the experiment must hold the same initial times and leads; of an external one those are taken that the others
have, and it must have them all, unless initial times that one lacks are to be left out for everybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import xarray as xr

from data_prep import clock
from data_prep.errors import DataError
from data_prep.files.arrays import rows_at
from data_prep.files.disk import reading
from data_prep.grid import Grid
from data_prep.preparation.store import Split, Store
from data_prep.reading.locations import Location
from data_prep.spec import level_dim
from data_prep.variables import SURFACE
from emulator.config import EvaluateConfig
from emulator.evaluation.external import as_slice
from emulator.evaluation.external_files import External, Places, open_forecasts_at
from emulator.forecast_form import open_forecasts

_DAMPED = ("climatology", "damped_anomaly_persistence", "linear_pcs")
_MOST_NAMED = 4  # of what is missing, in a message

ALL = slice(None)
"""Of the positions along an axis."""

LeftOut: TypeAlias = Mapping[str, np.ndarray]
"""Initial times of a comparison that are left out for everybody, by the forecaster that lacks them."""


@dataclass(frozen=True)
class ForecastFile:
    """A forecast file whose grid and levels are those of the truth.

    It is opened for each read: an open NetCDF file keeps what it has decompressed, tens of megabytes a variable.

    Attributes:
      path: Where it lies.
      init_times: ``datetime64[ns] (init_time,)``.
      lead_times: ``timedelta64[ns] (lead_time,)``.
      variables: What it holds of the truth's variables, and the surface that it stands on.
      members: How many; 0 of single forecasts.
      attributes: Its global attributes.
      init_rows: Positions of ``init_times`` in the file.
      is_external: Whether another program made it, so that it may lack variables.
    """

    is_external: ClassVar[bool] = False
    path: Location
    init_times: np.ndarray
    lead_times: np.ndarray
    variables: tuple[str, ...]
    members: int
    attributes: Mapping[str, Any]
    init_rows: np.ndarray

    @property
    def is_ensemble(self) -> bool:
        """Whether it has members."""
        return self.members > 0

    @property
    def is_damped(self) -> bool:
        """Whether it holds the climatology, forecasts drawn towards it by construction, or is made with such."""
        said = (str(self.attributes.get(key, "")) for key in ("forecaster", "mean_of", "ensemble_of"))
        return any(name in _DAMPED or name.endswith("_damped") for names in said for name in names.split(", "))

    @classmethod
    def open(cls, path: Path, store: Store) -> ForecastFile:
        """Reads what describes the file.

        Raises:
          DataError: it is no forecast file, or is on another grid or other levels than the truth.
        """
        with reading(path), open_forecasts(path) as dataset:
            _check_grid(path, dataset, store)
            return cls(
                path,
                dataset["init_time"].values.astype("datetime64[ns]"),
                dataset["lead_time"].values.astype("timedelta64[ns]"),
                tuple(n for n in (*store.spec.state_variables, SURFACE) if n in dataset),
                dataset.sizes.get("realization", 0),
                dataset.attrs,
                np.arange(dataset.sizes["init_time"]),
            )

    def read(self, names: Sequence[str], inits: slice, leads: slice | np.ndarray = ALL) -> xr.Dataset:
        """These variables from these initial times at these leads, by position, loaded."""
        path = Path(self.path)
        with reading(path), open_forecasts(path) as dataset:
            return dataset[list(names)].isel(init_time=as_slice(self.init_rows[inits]), lead_time=leads).load()

    def starting_at(self, init_times: np.ndarray) -> Self:
        """The same with these of its initial times alone."""
        rows, _ = rows_at(self.init_times, init_times)
        return replace(self, init_times=init_times, init_rows=self.init_rows[rows])

    def as_scored(self, scores: xr.Dataset) -> Self:
        """With the initial times of scores that say they left some out; else, or where it lacks one, as it is."""
        scored = scores["init_time"].values
        fits = "left_out" in scores.attrs and np.isin(scored, self.init_times).all()
        return self.starting_at(scored) if fits else self


@dataclass(frozen=True)
class ExternalFile(ForecastFile):
    """Some initial times and leads of an external file.

    Attributes:
      source: All of the file, or of the files that are one set of forecasts.
      lead_rows: Positions of ``lead_times`` in the file.
    """

    is_external: ClassVar[bool] = True
    source: External
    lead_rows: np.ndarray

    @classmethod
    def choose(cls, source: External, init_times: np.ndarray, lead_times: np.ndarray) -> ExternalFile:
        """These initial times and leads of a file.

        Raises:
          DataError: it lacks some of them; they are listed.
        """
        init_rows = _positions(source.path, source.init_times, init_times, "initial times")
        lead_rows = _positions(source.path, source.lead_times, lead_times, "leads")
        names = tuple(source.fields)
        described = (source.path, init_times, lead_times, names, source.members, source.attributes)
        return cls(*described, init_rows, source, lead_rows)

    def read(self, names: Sequence[str], inits: slice, leads: slice | np.ndarray = ALL) -> xr.Dataset:
        """These variables from these initial times at these leads, by position, loaded."""
        return self.source.read(names, self.init_rows[inits], self.lead_rows[leads])


def open_compared(
    paths: Mapping[str, Places], store: Store, config: EvaluateConfig
) -> tuple[dict[str, ForecastFile], LeftOut]:
    """Opens forecast files that are to be compared as a config says, and tells which initial times are left out.

    Args:
      paths: The files by forecaster; an external one may have several.
      store: The truth.
      config: Which are external (``forecasts``), which pressure levels are wanted of these where the truth is on sigma
        levels, and what becomes of initial times that one of them lacks (``missing_inits``).

    Raises:
      DataError: a file does not fit the truth (see ``ForecastFile.open`` and ``open_external``), or has other initial
        times or leads than the first one (an external one: lacks some of them); or no initial time is left.
    """
    external, pressure_levels = config.forecasts, config.pressure_levels
    own = {name: ForecastFile.open(_one(path), store) for name, path in paths.items() if name not in external}
    others = {name: _external(name, paths[name], store, pressure_levels) for name in paths if name in external}
    all_files: list[ForecastFile | External] = [*own.values(), *others.values()]
    first = all_files[0]
    leads = np.sort(first.lead_times)  # of ours they are in order
    if not own:  # the initial time is no forecast
        leads = leads[leads != np.timedelta64(0, "ns")]
    if leads.size == 0:
        raise DataError(f"{first.path}: no lead is later than the initial time, so there is nothing to verify")
    for file in own.values():
        for axis in ("init_times", "lead_times"):
            ours, theirs = getattr(file, axis), getattr(first, axis)
            if not np.array_equal(ours, theirs):
                raise DataError(
                    f"{file.path}: its {axis.replace('_', ' ')} ({describe_times(ours)}) differ from those of "
                    f"{first.path} ({describe_times(theirs)}); all forecasters must share all of them: "
                    "make the forecasts again"
                )
    inits = first.init_times if own else wanted_inits(list(others.values()), leads, store, config.split)
    kept, left_out = common_inits(others, inits, config)
    chosen = {name: ExternalFile.choose(source, kept, leads) for name, source in others.items()}
    files: dict[str, ForecastFile] = {**own, **chosen}
    return {name: files[name].starting_at(kept) if left_out else files[name] for name in paths}, left_out


def wanted_inits(others: Sequence[External], leads: np.ndarray, store: Store, split: Split) -> np.ndarray:
    """The initial times of a comparison of external forecasts alone, ascending: the first one's, its gaps filled.

    A gap is an initial time that another holds and the truth verifies, and that the first would hold if it held all
    between its first and its last, as often as it starts elsewhere. What starts on Mondays and Thursdays has none.
    """
    held = np.sort(others[0].init_times)
    apart = np.diff(held)
    if held.size < 2 or (apart % apart.min()).any():
        return held
    every, span = apart.min(), leads.max()
    more = np.setdiff1d(np.concatenate([other.init_times for other in others]), held)
    more = more[(more > held[0]) & (more < held[-1])]
    more = more[(more - held[0]) % every == np.timedelta64(0, "ns")]
    segments = [s for s in store.segments if s.split == split]
    verified = [any(s.first_time <= t and t + span <= s.last_time for s in segments) for t in more]
    return np.union1d(held, more[np.array(verified, bool)])


def common_inits(
    others: Mapping[str, External], inits: np.ndarray, config: EvaluateConfig
) -> tuple[np.ndarray, LeftOut]:
    """The initial times that are compared: all, or where the config leaves out what somebody lacks, the rest.

    Raises:
      DataError: none is left.
    """
    if config.missing_inits == "refuse":
        return inits, {}
    lacking = {name: inits[~np.isin(inits, other.init_times)] for name, other in others.items()}
    left_out = {name: times for name, times in lacking.items() if times.size}
    kept = inits[~np.isin(inits, np.concatenate([inits[:0], *left_out.values()]))]
    if kept.size == 0:
        each = "; ".join(f"{others[name].path} holds {describe_times(others[name].init_times)}" for name in left_out)
        raise DataError(f"evaluate: no initial time is left that all hold, of {describe_times(inits)}: {each}")
    return kept, left_out


def _one(places: Places) -> Path:
    """The file of a forecaster of the experiment's, which has one."""
    assert not isinstance(places, tuple)
    return Path(places)


def _external(name: str, places: Places, store: Store, pressure_levels: Sequence[float]) -> External:
    """An external file with its name among its attributes: that alone may say whether it is damped."""
    found = open_forecasts_at(places, store, pressure_levels)
    names = [name, str(found.attributes.get("forecaster", ""))]
    return replace(found, attributes={**found.attributes, "forecaster": ", ".join(filter(None, names))})


def _positions(path: Location, have: np.ndarray, wanted: np.ndarray, what: str) -> np.ndarray:
    rows, missing = rows_at(have, wanted)
    if missing.size:
        named = [describe_time(value) for value in missing[:_MOST_NAMED]]
        more = f" and {missing.size - _MOST_NAMED} more" if missing.size > _MOST_NAMED else ""
        remedy = "choose evaluate.lead_hours and evaluate.lead_step_hours by it"
        if what == "initial times":
            remedy = "evaluate.missing_inits: leave_out compares without them, or choose evaluate's initial times by it"
        raise DataError(
            f"{path}: lacks {what} of the comparison: {', '.join(named)}{more}; it holds {describe_times(have)}; "
            f"{remedy}"
        )
    return rows


def _check_grid(path: Path, dataset: xr.Dataset, store: Store) -> None:
    grid = Grid.from_arrays(dataset["latitude"], dataset["longitude"])
    if not grid.matches(store.grid):
        raise DataError(f"{path}: its grid ({grid.describe()}) is not the truth's ({store.grid.describe()})")
    for variable in store.spec.state_variables.values():
        if variable.name not in dataset or not variable.levels:
            continue
        dim = level_dim(dataset[variable.name])
        levels = np.asarray(dataset[dim].values if dim else [], np.float64)
        if levels.shape != (len(variable.levels),) or not np.allclose(levels, variable.levels, rtol=1e-4, atol=0):
            raise DataError(
                f"{path}: {variable.name} is on levels {levels.tolist()}, the truth on {list(variable.levels)}"
            )


def describe_times(values: np.ndarray) -> str:
    """How many times or leads, from when to when, for messages."""
    if values.size == 0:
        return "none"
    return f"{values.size} from {describe_time(values[0])} to {describe_time(values[-1])}"


def describe_time(value: np.datetime64 | np.timedelta64) -> str:
    """One time (to the hour) or lead (hours), for messages."""
    if isinstance(value, np.timedelta64):
        return f"{clock.hours(value):g} h"
    return str(np.datetime_as_string(value, "h"))
