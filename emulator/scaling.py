"""What more parameters, more data and more compute buy: short trainings, one point each, and the slope through them.

    python scripts/scaling.py measure CONFIG --axis parameters --steps 300 --set model.width=32
    python scripts/scaling.py measure CONFIG --axis data --steps 300 --years 0.25
    python scripts/scaling.py plot docs/images/scaling.png

A point is one training of next-step prediction of so many steps, with the experiment's network, optimiser and learning
rate, the latter brought down along a cosine. Its score is the error three days ahead over that of climatology, from
initial times of the validation split, mean over the prognostic channels: 1 is worth nothing, 0 is perfect. A point
takes at most 90 s of training, so that many can be had; points of several runs and machines collect in one file, which
says what each was made with. The axis names what was varied, for the plot.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import numpy as np
from scipy import stats

from data_prep.errors import ConfigError, DataError
from data_prep.store import Segment, Store
from emulator import __version__
from emulator.budget import Programs, step_flops
from emulator.command import append_line, as_command, check_appendable
from emulator.config import ExperimentConfig, RolloutStage, load_config
from emulator.devices import WHOLE
from emulator.machine import describe
from emulator.models.layers import count_parameters
from emulator.train import Job, open_for_training, set_up
from emulator.train_step import TrainState
from emulator.validation import Validation

logger = logging.getLogger(__name__)

POINTS = Path("docs/scaling.jsonl")
LEAD_HOURS = 72

Axis = Literal["parameters", "data", "compute"]

_MOST_SECONDS = 90.0
_BLOCK_DAYS = 30
_PACE_STEPS = 5
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Point:
    """One short training and what it came to.

    Attributes:
      axis: What was varied.
      config: Name of the experiment.
      model: Its model section.
      parameters: Numbers it learns.
      years: Data it learns from.
      steps, batch_size: Of the optimiser.
      operations: Of the whole training, by the model's arithmetic.
      seconds: Of the steps alone, without compilation.
      seed: Of weights and order.
      score: Error three days ahead over climatology's, mean over the prognostic channels.
      activity: Root mean square change over the step that leads there, over the truth's; median of those channels.
      data_hash: Of the store.
      machine, versions, date: Where, with what, and when.
    """

    axis: Axis
    config: str
    model: dict[str, Any]
    parameters: int
    years: float
    steps: int
    batch_size: int
    operations: float
    seconds: float
    seed: int
    score: float
    activity: float
    data_hash: str
    machine: str
    versions: dict[str, str]
    date: str


_LABELS: dict[Axis, tuple[str, Callable[[Point], float]]] = {
    "parameters": ("parameters", lambda p: p.parameters),
    "data": ("simulated years", lambda p: p.years),
    "compute": ("operations of training", lambda p: p.operations),
}


@dataclass(frozen=True)
class Slope:
    """A power law through points: ``score ~ x ** exponent``.

    Attributes:
      exponent: Of least squares in the logarithms.
      lower, upper: Its interval by Student's t; infinite below three points.
      factor: Score at x = 1.
    """

    exponent: float
    lower: float
    upper: float
    factor: float


def measure(config: ExperimentConfig, axis: Axis, steps: int, years: float | None, seed: int) -> Point:
    """Trains and scores one point.

    Args:
      config: The experiment; its store must be there.
      axis: What is being varied.
      steps: Optimiser steps.
      years: Of training data, blocks spread over all there is; all when ``None``.
      seed: Of weights and order.

    Raises:
      ConfigError: the training would take longer than a point may, or there are not so many years.
      DataError: the validation split is shorter than the lead.
    """
    store = open_for_training(config.path / "store.zarr")
    if years is not None:
        store = thinned(store, years)
    lead_steps = LEAD_HOURS * 3600 * 10**9 // int(store.timestep.astype("timedelta64[ns]").astype(np.int64))
    stage = RolloutStage(**{**config.train.stages[0].model_dump(), "steps": steps, "rollout": 1})
    recipe = config.train.model_copy(update={"stages": [stage], "validation_steps": lead_steps})
    job = set_up(recipe, config.model, store, seed)
    programs = Programs(job.step, _start(job), job.task, store, job.layout, recipe)
    state, seconds = _learn(job, programs)
    skill = job.validation.run(state.averaged, job.task)
    size = job.longest.windows.batch_size
    n = store.spec.n_prognostic
    return Point(
        axis,
        config.name,
        config.model.model_dump(mode="json"),
        count_parameters(state.params),
        round(training_years(store), 3),
        steps,
        size,
        float(steps * step_flops(config.model, store, size, 1)),
        round(seconds, 1),
        seed,
        float(np.mean(skill.rmse[-1, :n] / _climatology_error(store, job.validation)[:n])),
        float(np.median(skill.activity[-1, :n])),
        store.data_hash,
        describe(),
        {"emulator": __version__, "jax": jax.__version__},
        f"{datetime.now(UTC):%Y-%m-%d}",
    )


def _start(job: Job) -> TrainState:
    return job.layout.place(job.fresh, WHOLE)


def _learn(job: Job, programs: Programs) -> tuple[TrainState, float]:
    """The state after all steps, and their seconds.

    Raises:
      ConfigError: by the pace of the first steps it would take too long.
    """
    (span,) = job.spans
    state = _start(job)
    program = programs.of(*span.shape(0))
    began, pace = time.perf_counter(), 0.0
    with closing(span.batches(range(span.start, span.stop), job.layout)) as batches:
        for step in range(span.start, span.stop):
            state, norms = program(state, next(batches), job.task)
            if step == _PACE_STEPS:
                jax.block_until_ready(norms)
                pace = (time.perf_counter() - began) / (_PACE_STEPS + 1)
                if (whole := pace * span.stop) > _MOST_SECONDS:
                    raise ConfigError(
                        f"--steps {span.stop}: would take {whole:.0f} s, a point may take {_MOST_SECONDS:.0f}; "
                        f"take at most {int(_MOST_SECONDS / pace)}"
                    )
        jax.block_until_ready(state)
    return state, time.perf_counter() - began


def _climatology_error(store: Store, validation: Validation) -> np.ndarray:
    """RMSE of climatology at the verified lead from the same initial times, ``(state,)``.

    Args:
      store: The fields themselves, also where the network sees anomalies: the error of either is the same.
      validation: Whose initial times and lead are meant.
    """
    rows = validation.rows.ravel() + validation.steps
    truth = np.stack([store.read_state(row, row + 1)[0] for row in rows.tolist()])
    error = truth - store.climatology.at(store.times[rows])
    return np.sqrt(np.mean(store.grid.latitude_weights[:, None, None] * error**2, axis=(0, 1, 2)))


def training_years(store: Store) -> float:
    """Data of the training split."""
    rows = sum(len(s) for s in store.segments if s.split == "train")
    return float(rows * (store.timestep / np.timedelta64(1, "D")) / 365.25)


def thinned(store: Store, years: float) -> Store:
    """The store with fewer training data: the beginning of every block of 30 days, so that all seasons stay.

    Statistics and climatology stay those of all data.

    Raises:
      ConfigError: there are not so many years.
    """
    there = training_years(store)
    if not 0 < years <= there:
        raise ConfigError(f"--years {years:g}: expected more than 0, at most the {there:.2f} that {store.path} has")
    rows = round(_BLOCK_DAYS * np.timedelta64(1, "D") / store.timestep)
    segments: list[Segment] = []
    for s in store.segments:
        if s.split != "train":
            segments.append(s)
            continue
        for start in range(s.start, s.stop - 1, rows):
            stop = start + max(2, round((min(start + rows, s.stop) - start) * years / there))
            segments.append(
                replace(s, start=start, stop=stop, first_time=store.times[start], last_time=store.times[stop - 1])
            )
    return replace(store, segments=tuple(segments))


def fit(x: Sequence[float], score: Sequence[float]) -> Slope:
    """The power law through points.

    Raises:
      DataError: there are fewer than two different values of ``x``.
    """
    if len(set(x)) < 2:
        raise DataError(f"a slope needs points at two different places at least, found {len(set(x))}")
    line = stats.linregress(np.log(x), np.log(score))
    freedom = len(x) - 2
    reach = float(stats.t.ppf((1 + _CONFIDENCE) / 2, freedom) * line.stderr) if freedom else np.inf
    return Slope(line.slope, line.slope - reach, line.slope + reach, float(np.exp(line.intercept)))


def read_points(path: Path) -> list[Point]:
    """All points of a file.

    Raises:
      DataError: a line is none.
    """
    try:
        return [Point(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: no file of scaling points ({error})") from None


def plot(points: Sequence[Point], path: Path) -> str:
    """Draws score against each axis with the fitted slopes.

    Args:
      points: Of one store and machine or of several, which are told apart by nothing but the file.
      path: The picture.

    Returns:
      The slopes, a line an axis.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    lines = []
    for axes, (axis, (label, of)) in zip(figure.subplots(1, len(_LABELS), sharey=True), _LABELS.items(), strict=True):
        mine = [p for p in points if p.axis == axis]
        x, y = [of(p) for p in mine], [p.score for p in mine]
        axes.set(xscale="log", xlabel=label)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(True, which="major", alpha=0.3)
        if not mine:
            axes.set_title("not measured")
            continue
        axes.plot(x, y, "o", color="#0072B2")
        if len(set(x)) > 1:
            slope = fit(x, y)
            ends = np.array([min(x), max(x)])
            axes.plot(ends, slope.factor * ends**slope.exponent, "-", color="#D55E00")
            text = f"exponent {slope.exponent:+.3f} [{slope.lower:+.3f}, {slope.upper:+.3f}]"
            axes.set_title(text, fontsize="medium")
            lines.append(f"{axis}: {text}, {len(x)} points")
    figure.axes[0].set_ylabel("error at day 3 / climatology's")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return "\n".join(lines)


@as_command
def main(argv: Sequence[str]) -> None:
    """Measures a point or draws all of them, from the command line."""
    parser = argparse.ArgumentParser(prog="scaling", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure", help="train and score one point, and append it")
    one.add_argument("config", metavar="CONFIG", help="the experiment whose store and recipe are used")
    one.add_argument("--axis", choices=get_args(Axis), required=True, help="what is being varied")
    one.add_argument("--steps", type=int, required=True, help="optimiser steps")
    one.add_argument("--years", type=float, help="years of training data; all there are when left out")
    one.add_argument("--seed", type=int, default=0, help="of weights and order")
    one.add_argument("--set", action="append", default=[], metavar="a.b=v", help="override one value of CONFIG")
    drawn = commands.add_parser("plot", help="draw all points with their slopes")
    drawn.add_argument("out", type=Path, metavar="PICTURE")
    for command in (one, drawn):
        command.add_argument("--points", type=Path, default=POINTS, help=f"the file of points ({POINTS})")
    arguments = parser.parse_args(argv)
    if arguments.command == "plot":
        print(plot(read_points(arguments.points), arguments.out))  # noqa: T201 - the result the user came for
        return
    config = load_config(arguments.config, arguments.set)
    check_appendable(arguments.points, "--points")
    point = measure(config, arguments.axis, arguments.steps, arguments.years, arguments.seed)
    line = json.dumps(asdict(point))
    print(line)  # noqa: T201 - the result the user came for
    append_line(arguments.points, line)
