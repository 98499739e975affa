"""The network that ships with the package: its files, and the proof that it does what its card says.

    networks/NAME/
        README.md                  the model card
        run.json, arrays.npz, weights.npz     a run folder: `emulator forecast` takes it like any other
        initial.nc                 initial fields of some test times, packed to 16 bits
        truth.nc                   headline variables at some leads after them
        card.json                  everybody's errors from those times, and from all times of the test

``ship`` makes such a folder of a finished experiment; ``check`` forecasts from the sample and lays what it finds beside
the card. Weights are kept as float16 and the forcing table packed, and the card's numbers were made with these.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_prep.errors import DataError, one_line
from data_prep.files.arrays import rows_at, spread
from data_prep.files.disk import reading, write_text
from data_prep.files.json_file import read_object
from data_prep.files.netcdf_file import write_netcdf
from data_prep.files.npz import read_arrays, write_arrays
from data_prep.preparation.store import Store, open_store
from data_prep.variables import SURFACE, known
from data_prep.vertical import derive
from emulator.checkpoint import ARRAYS, load_forecaster, read_description, write_description
from emulator.command import as_command
from emulator.evaluation.regions import WHOLE
from emulator.evaluation.scores_reader import candidate, headline_variables
from emulator.evaluation.style import forecaster_label, shown_unit, variable_label
from emulator.packing import pack_table
from emulator.run_folder import WEIGHTS

INITIAL = "initial.nc"
"""Initial fields, in a shipped folder."""

_TRUTH, _CARD = "truth.nc", "card.json"
_DAYS = (1, 3, 5, 10)
_REMEDY = "take the folder as it was shipped"
_TOLERANCE = 0.01  # of another processor's rounding, grown for ten days


@dataclass(frozen=True)
class Check:
    """A forecast from the sample beside the card.

    Attributes:
      text: A table to print.
      agrees: Whether every error is the card's, within one part in a hundred.
    """

    text: str
    agrees: bool


def check(folder: Path) -> Check:
    """Forecasts from the sample and compares the errors with the card's.

    Args:
      folder: Of the shipped network.

    Raises:
      DataError: it is not there, or is damaged.
    """
    if not (folder / _CARD).is_file():
        raise DataError(f"{folder}: no shipped network ({_CARD} is missing)")
    card = read_object(folder / _CARD, _REMEDY)
    found = sample_errors(folder)
    try:
        expected = np.array([card["sample"]["errors"]["network"][name] for name in found])
        table = _table(card, found)
        worst = float(np.max(np.abs(np.array(list(found.values())) / expected - 1)))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder / _CARD}: damaged ({type(error).__name__}: {error}); {_REMEDY}") from None
    agrees = worst <= _TOLERANCE
    verdict = (
        f"Every error is that of the card, within {100 * _TOLERANCE:g} %."
        if agrees
        else f"NOT the card's numbers: one is off by {100 * worst:.1f} %."
    )
    return Check(f"{table}\n\n{verdict}\n", agrees)


def sample_errors(folder: Path) -> dict[str, list[float]]:
    """RMSE of the network over the sample, by headline variable, at the leads of its truth; SI units."""
    forecaster = load_forecaster(folder)
    truth, initial = (_load(folder / name) for name in (_TRUTH, INITIAL))
    leads = truth["lead_time"].values
    # as far as the last lead in one go, and of that the leads that there is truth for
    forecast = xr.concat(forecaster.forecast(initial, leads), dim="lead_time")
    forecast[SURFACE] = (("latitude", "longitude"), forecaster.surface_geopotential)
    planes = _planes(forecast, list(map(str, truth.data_vars)))
    weights = xr.DataArray(forecaster.grid.latitude_weights, dims="latitude")
    errors = {}
    for name, plane in planes.items():
        squares = weights * (plane - truth[name]) ** 2
        mean = squares.mean(["init_time", "latitude", "longitude"])
        errors[name] = (mean**0.5).values.astype(float).tolist()
    return errors


def _load(path: Path) -> xr.Dataset:
    if not path.is_file():
        raise DataError(f"{path}: no such file; {_REMEDY}")
    try:
        with reading(path):
            return xr.load_dataset(path, engine="netcdf4")
    except OSError as error:  # of bytes that are no NetCDF at all
        raise DataError(f"{path}: cannot be read ({one_line(error)}); {_REMEDY}") from None


def ship(experiment: Path, out: Path, samples: int) -> None:
    """Makes the folder of a network out of a finished experiment; the card's text is left to its author.

    Args:
      experiment: Folder of the experiment, evaluated.
      out: The folder to be.
      samples: Initial times of the sample, spread evenly over those of the test.

    Raises:
      DataError: the experiment is not finished.
    """
    if not (experiment / "scores.nc").is_file():
        raise DataError(f"{experiment}: not evaluated (scores.nc is missing)")
    out.mkdir(parents=True, exist_ok=True)
    ship_run(experiment / "run", out)
    store = open_store(experiment / "store.zarr")
    with xr.open_dataset(experiment / "scores.nc") as scores:
        inits = scores["init_time"].values
        chosen = inits[spread(inits.size, samples)]
        names = headline_variables(scores)
        leads = np.array(_DAYS, "timedelta64[D]").astype("timedelta64[ns]")
        rows, _ = rows_at(store.times, chosen)
        prognostic = [v.name for v in store.spec.with_role("prognostic")]
        _write_packed(store.dataset(rows)[prognostic], out / INITIAL)
        _write_packed(_truth(store, rows, chosen, leads, names), out / _TRUTH)
        card = {
            "data_hash": store.data_hash,
            "truth": scores.attrs["truth"],
            "days": list(_DAYS),
            "sample": {
                "initial_times": [f"{t!s:.16}" for t in chosen],
                "errors": _errors(scores, chosen, leads, names),
            },
            "test": {"initial_times": int(inits.size), "errors": _errors(scores, inits, leads, names)},
        }
    card["sample"]["errors"][candidate(scores)] = sample_errors(out)  # with the weights as they ship
    write_text(out / _CARD, json.dumps(card, indent=1))


def ship_run(run: Path, out: Path) -> None:
    """Copies what a forecast needs of a run folder, made small: weights as float16, the forcing table packed.

    Of a network that was trained with products of bfloat16 forecasts are made in float32, which is nearly the same.
    """
    description = read_description(run)
    description["experiment"] |= {"workdir": "", "reuse": None}
    if description["precision"] == "bfloat16_products":
        description["precision"] = "float32"  # which is fast on any reader's processor
    write_description(out, description)
    weights, arrays = (read_arrays(run / name, "train again") for name in (WEIGHTS, ARRAYS))
    half = {name: array.astype(np.float16) for name, array in weights.items()}
    write_arrays(out / WEIGHTS, half, compressed=True)
    packed = pack_table(arrays.pop("forcing/table"))
    arrays |= {f"forcing/packed/{name}": part for name, part in packed.items()}
    write_arrays(out / ARRAYS, arrays, compressed=True)


def _truth(store: Store, rows: np.ndarray, times: np.ndarray, leads: np.ndarray, names: Sequence[str]) -> xr.Dataset:
    """Headline variables at some leads, dims ``(lead_time, init_time, latitude, longitude)``."""
    parts = []
    for lead in leads:
        fields = store.dataset(rows + int(lead / store.timestep)).drop_vars("time").rename(time="init_time")
        fields = fields.assign_coords(init_time=times)
        fields[SURFACE] = (("latitude", "longitude"), store.surface_geopotential)
        parts.append(xr.Dataset(_planes(fields, names)).expand_dims(lead_time=[lead]))
    return xr.concat(parts, dim="lead_time")


def _planes(dataset: xr.Dataset, names: Sequence[str]) -> dict[str, xr.DataArray]:
    """Headline variables of fields on sigma levels, by names such as ``geopotential@500``."""
    levels = sorted({float(level) for _, _, level in (n.partition("@") for n in names) if level})
    derived = derive(dataset, levels)
    planes = {}
    for name in names:
        variable, _, level = name.partition("@")
        field = derived[variable]
        planes[name] = field.sel(level=float(level), drop=True) if level else field
    return planes


def _write_packed(dataset: xr.Dataset, path: Path) -> None:
    """NetCDF with 16 bits a number; humidity, which spans decades, keeps four digits instead."""
    encoding: dict[str, dict[str, Any]] = {}
    for name, field in dataset.data_vars.items():
        small: dict[str, Any] = {"zlib": True, "complevel": 9, "shuffle": True}
        if name == "specific_humidity":
            bits = {"significant_digits": 12, "quantize_mode": "BitRound"}  # binary digits, in this mode
            encoding[str(name)] = small | bits | {"dtype": "float32"}
            continue
        low, high = float(field.min()), float(field.max())
        scale = {"scale_factor": (high - low) / (2**16 - 4), "add_offset": (low + high) / 2}
        encoding[str(name)] = small | scale | {"dtype": "int16", "_FillValue": np.int16(-(2**15))}
    write_netcdf(dataset, path, encoding=encoding)


def _errors(
    scores: xr.Dataset, times: np.ndarray, leads: np.ndarray, names: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """RMSE by forecaster and variable at some leads from some initial times, SI units."""
    means = scores["squared_error"].sel(region=WHOLE, init_time=times, lead_time=leads).mean("init_time") ** 0.5
    return {
        str(f): {n: means.sel(forecaster=f, variable=n).values.astype(float).tolist() for n in names}
        for f in scores["forecaster"].values
    }


def _table(card: dict[str, Any], found: dict[str, list[float]]) -> str:
    """Errors by day, a block for each variable: found, the card's, everybody else's. Fits into 80 columns."""
    errors = card["sample"]["errors"]
    others = [n for n in errors if n not in ("network", "network_debiased") and not n.endswith("persistence")]
    others.sort(key=lambda name: not name.startswith("network"))  # damped as physics is, beside the network itself
    labels = ["network, here", "network, card", *map(forecaster_label, others)]
    width = max(map(len, labels))
    lines = []
    for name, here in found.items():
        unit = shown_unit(name, _si(name))
        title = f"{variable_label(name)}, {unit.label}" if unit.label else variable_label(name)
        rows = [here, errors["network"][name], *(errors[n][name] for n in others)]
        lines += ["", title]
        lines += [f"  {label:{width}}{_columns(row, unit.factor)}" for label, row in zip(labels, rows, strict=True)]
    title = (
        f"RMSE from {len(card['sample']['initial_times'])} initial times that nobody learned from; "
        f"the truth is a {card['truth']}."
    )
    days = "".join(f"{f'{d} d':>10}" for d in card["days"])
    return "\n".join([title, "", f"  {'':{width}}{days}", *lines[1:]])


def _columns(values: Sequence[float], factor: float) -> str:
    return "".join(f"{f'{factor * v:.3g}':>10}" for v in values)


def _si(name: str) -> str:
    facts = known(name.partition("@")[0])
    return facts.units if facts else "1"


@as_command
def main(argv: Sequence[str]) -> None:
    """Makes a folder that ships, from the command line."""
    parser = argparse.ArgumentParser(prog="ship_network", description="Make the folder of a network that ships.")
    parser.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="folder of an evaluated experiment")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to be; its README.md is left alone")
    parser.add_argument("--samples", type=int, default=12, help="initial times of the sample (12)")
    arguments = parser.parse_args(argv)
    ship(arguments.experiment, arguments.out, arguments.samples)
