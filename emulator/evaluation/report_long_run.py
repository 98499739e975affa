"""The long run of a report: what it found in words, and the numbers of its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from emulator.evaluation.report_arrays import floats
from emulator.evaluation.scores_reader import lead_days
from emulator.evaluation.style import forecaster_label, shown_unit, variable_label


def describe_long_run(run: xr.Dataset) -> tuple[str, ...]:
    """Sentences: whether it stayed finite, when global means left the truth's range, how lively it is at the end.

    Args:
      run: As ``measure_long_run`` returns it.
    """
    name, days = forecaster_label(run.attrs["forecaster"]), lead_days(run)
    runs = run.sizes["init_time"]
    finite = run["days_finite"].values
    lasted = bool(np.isinf(finite).all())
    end = "and stayed finite"
    if not lasted:
        days_of = sorted(finite[np.isfinite(finite)])
        of = f"{len(days_of)} of them " if runs > 1 else ""
        verb = "stopped" if "ended" in run.attrs else "not finite"
        when = " and ".join(f"{day:.0f}" for day in days_of)
        end = f"but {of}{'were' if len(days_of) > 1 else 'was'} {verb} after day {when}"
    times = "one initial time" if runs == 1 else f"{runs} initial times"
    out = [f"{name} was left to itself for {days[-1]:.0f} days from {times} {end}."]
    if "sponge" in run.attrs:
        out.append(f"A sponge took departures from climatology down ({run.attrs['sponge']}).")
    known = run["truth_mean"].notnull().any("variable").values
    if not known.any():
        return (*out, "The truth covers no part of these dates, so nothing is said of its climate.")
    stay = f"{run.attrs['stay_days']:g}"
    earliest = run["days_within"].min("init_time")
    left = {v: float(earliest.sel(variable=v)) for v in run["variable"].values.tolist()}
    gone = sorted((day, v) for v, day in left.items() if np.isfinite(day))
    if gone:
        listed = ", ".join(
            f"{variable_label(v)} {f'after {day:.0f} days' if day else 'from the start'}" for day, v in gone
        )
        out.append(f"Global means leave what the truth does at that time of the year for {stay} days: {listed}.")
    if float(np.minimum(finite, days[-1]).max()) < run.attrs["stay_days"]:
        out.append(
            f"That is too short to tell whether global means stay where the truth has them: {stay} days outside count."
        )
    elif len(gone) < len(left):
        rest = "No global mean leaves" if not gone else "The others never leave"
        end = "" if lasted else " before the run ends"
        out.append(f"{rest} what the truth does at that time of the year for {stay} days{end}.")
    if not known.all():
        out.append(f"The truth covers {100 * known.mean():.0f} % of these dates; of the rest nothing is said.")
    ratio = run["fine_scale_ratio"].dropna("window", how="all")
    if ratio.size:
        last = ratio.isel(window=-1)
        worst = int(np.nanargmax(np.abs(np.log(last.values))))
        window = int(last["window"])
        compared = known & run["global_mean"].notnull().all("variable").values
        until = min(window + run.attrs["window_days"], days[compared.any(axis=0)][-1])
        out.append(
            f"Fine-scale amplitude in days {window + 1} to {until:.0f} is "
            f"{float(last.min()):.2f} to {float(last.max()):.2f} times the truth's, farthest off in "
            f"{variable_label(str(last['variable'].values[worst]))}."
        )
    return tuple(out)


def pack_long_run(run: xr.Dataset, variables: Sequence[str]) -> dict[str, Any] | None:
    """Numbers of the pictures, in shown units; ``None`` where none of the page's variables was measured.

    Args:
      run: As ``measure_long_run`` returns it.
      variables: Of the page, in its order.
    """
    held = run["variable"].values.tolist()
    both = [v for v in variables if v in held]
    if not both:
        return None
    some = run.sel(variable=both)
    units = some["units"].values.tolist()
    factors = xr.DataArray([shown_unit(v, u).factor for v, u in zip(both, units, strict=True)], dims="variable")
    by_time = ("variable", "init_time", "lead_time")

    def shown(name: str, dims: Sequence[str]) -> dict[str, Any]:
        return floats((some[name] * factors).transpose(*dims).values)

    return {
        "variables": [list(variables).index(v) for v in both],
        "days": lead_days(some).round(4).tolist(),
        "starts": [str(np.datetime_as_string(t, "h")).replace("T", " ") for t in some["init_time"].values],
        "windows": some["window"].values.tolist(),
        "window_days": int(some.attrs["window_days"]),
        "latitude": np.round(some["latitude"].values, 2).tolist(),
        **{key: shown(key, by_time) for key in ("global_mean", "truth_mean", "truth_lowest", "truth_highest")},
        "zonal_bias": shown("zonal_bias", ("variable", "window", "latitude")),
        "fine_scale_ratio": floats(some["fine_scale_ratio"].transpose("variable", "window").values),
    }
