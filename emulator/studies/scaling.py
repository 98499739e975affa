"""What more parameters, more data and more compute buy: short trainings, one point each, and the slopes through them.

    python scripts/scaling.py measure CONFIG --steps 100 200 400 --set model.width=32
    python scripts/scaling.py measure CONFIG --steps 400 --years 0.1 0.5 2 --set model.width=32
    python scripts/scaling.py plot docs/images/scaling.png

A point is one training of next-step prediction of so many steps, with the experiment's network, optimiser and learning
rate, the latter brought down along a cosine. Its score is the error three days ahead over that of climatology, from
initial times of the validation split, mean over the prognostic channels: 1 is worth nothing, 0 is perfect. A point
takes at most 90 s of training, so that many can be had; points of several runs and machines collect in one file, which
says what each was made with. Points that differ in one thing alone, width, data or steps, make a curve, and one point
can lie on three. No curve joins points of different stores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
from pydantic import TypeAdapter
from scipy import stats

from data_prep import clock
from data_prep.errors import ConfigError, DataError, one_line
from data_prep.preparation.store import Segment, Store
from emulator import __version__
from emulator.command import append_line, as_command, check_appendable, say
from emulator.config import ExperimentConfig, ModelConfig, TrainConfig, load_config
from emulator.hardware.machine import describe
from emulator.models.layers import count_parameters
from emulator.parser import positive
from emulator.studies.markdown import markdown_table
from emulator.training.budget import Programs, step_flops
from emulator.training.devices import WHOLE
from emulator.training.job import Job, open_for_training, set_up
from emulator.training.train_step import TrainState
from emulator.training.validation import Validation

POINTS = Path("docs/scaling.jsonl")
LEAD_HOURS = 72

_MOST_SECONDS = 90.0
_BLOCK_DAYS = 30
_PACE_SHARE = 0.05  # of these seconds, after which the pace is known
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Point:
    """One short training and what it came to.

    Attributes:
      config: Name of the experiment.
      model: Its model section.
      parameters: Numbers it learns.
      years: Data it learns from.
      optimiser, learning_rate, steps, batch_size: Of the training; the rate is the highest.
      operations: Of the whole training, by the model's arithmetic.
      seconds: Of the steps alone, without compilation.
      seed: Of weights and order.
      score: Error three days ahead over climatology's, mean over the prognostic channels.
      activity: Root mean square change over the step that leads there, over the truth's; median of those channels.
      data_hash: Of the store.
      machine, versions, date: Where, with what, and when.
      recipe: Whatever else of the ``train`` section is no default; not kept of the first points.
    """

    config: str
    model: dict[str, Any]
    parameters: int
    years: float
    optimiser: str
    learning_rate: float
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
    recipe: dict[str, Any] = field(default_factory=dict)


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


def measure(config: ExperimentConfig, steps: int, years: float | None, seed: int) -> Point:
    """Trains and scores one point.

    Args:
      config: The experiment; its store must be there.
      steps: Optimiser steps.
      years: Of training data, blocks spread over all there is; all when ``None``.
      seed: Of weights and order.

    Raises:
      ConfigError: training would take longer than a point may, there are not so many years, or the seed is negative.
      DataError: the validation split is shorter than the lead, no steps of the data come to it, or forecasts are not
        finite there.
    """
    if seed < 0:
        raise ConfigError(f"--seed {seed}: expected 0 or more")
    store = open_for_training(config.path / "store.zarr")
    if years is not None:
        store = thinned(store, years)
    lead_steps, rest = divmod(np.timedelta64(LEAD_HOURS, "h"), store.timestep)
    if rest:
        raise DataError(
            f"{store.path}: steps of {clock.hours(store.timestep):g} h do not come to the {LEAD_HOURS} h of the score"
        )
    stage = config.train.stages[0].model_copy(update={"steps": steps, "rollout": 1, "free_steps": 0})
    recipe = config.train.model_copy(update={"stages": [stage], "validation_steps": int(lead_steps)})
    job = set_up(recipe, config.model, store, seed)
    state = job.layout.place(job.fresh, WHOLE)
    programs = Programs(job.step, state, job.task, store, job.layout, recipe)
    state, seconds = _learn(job, programs, state)
    skill = job.validation.run(state.averaged, job.task)
    if not np.isfinite(skill.rmse[-1]).all():  # no curve could go through it
        raise DataError(f"--steps {steps}: forecasts with such a network are not finite {LEAD_HOURS} h ahead; no point")
    size = job.spans[0].windows.longest.windows
    n = store.spec.n_prognostic
    return Point(
        config.name,
        config.model.model_dump(mode="json"),
        count_parameters(state.params),
        round(training_years(store), 3),
        recipe.optimiser,
        stage.learning_rate,
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
        _rest_of(recipe),
    )


def _rest_of(recipe: TrainConfig) -> dict[str, Any]:
    """What of a recipe decides and has no place of its own in a point."""
    told = {*TrainConfig.HOW, "stages", "seed", "optimiser", "batch_size"}
    stage = {"steps", "rollout", "learning_rate", "batch_size"}
    out = recipe.model_dump(mode="json", exclude_defaults=True, exclude=told)
    return out | recipe.stages[0].model_dump(mode="json", exclude_defaults=True, exclude=stage)


def _learn(job: Job, programs: Programs, state: TrainState) -> tuple[TrainState, float]:
    """The state after all steps from this one, and their seconds.

    Raises:
      ConfigError: by the pace of the first seconds it would take too long.
    """
    (span,) = job.spans
    program = programs.of(span.shape(0))
    began = warm = time.perf_counter()
    is_paced = False
    with closing(span.batches(range(span.start, span.stop), job.layout)) as batches:
        for step in range(span.start, span.stop):
            state, norms = program(state, next(batches), job.task)
            if is_paced:
                continue
            jax.block_until_ready(norms)
            if step == 0:  # which waits for the first batch, and finds caches cold
                warm = time.perf_counter()
            elif (elapsed := time.perf_counter() - warm) > _PACE_SHARE * _MOST_SECONDS:
                is_paced, pace = True, elapsed / step
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
    """How much data the training split holds, in years."""
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
        return [_point(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: no file of scaling points ({one_line(error)})") from None


def _point(fields: dict[str, Any]) -> Point:
    """The point of a line; keys that networks did not have when it was written get what they stood for."""
    model: ModelConfig = TypeAdapter(ModelConfig).validate_python(fields["model"])
    return Point(**{**fields, "model": model.model_dump(mode="json")})


@dataclass(frozen=True)
class Curve:
    """Points that differ in one thing.

    Attributes:
      axis: What differs: ``parameters``, by the width; ``simulated years``; ``operations of training``, by the steps.
      held: What does not, in words.
      points: Ordered by what differs.
    """

    axis: str
    held: str
    points: tuple[Point, ...]

    @property
    def x(self) -> list[float]:
        """What differs."""
        return [float(_AXES[self.axis].of(p)) for p in self.points]

    @property
    def slope(self) -> Slope:
        """The power law through the points."""
        return fit(self.x, [p.score for p in self.points])


@dataclass(frozen=True)
class _Axis:
    """How a curve along one axis is picked out: where a point lies on it, what is the same, and how that is called."""

    of: Callable[[Point], float]
    same: Callable[[Point], tuple[Any, ...]]
    held: Callable[[Point], str]


def _model(section: dict[str, Any]) -> str:
    return json.dumps(section, sort_keys=True)


def _millions(point: Point) -> str:
    return f"{point.parameters / 1e6:.2g} M"


def _network(point: Point) -> str:
    steps, degree = point.model["time_steps"], point.model.get("global_truncation", 0)
    by_steps = f", time steps {' and '.join(map(str, steps))}" if len(steps) > 1 else ""
    return _millions(point) + by_steps + (f", filters to degree {degree}" if degree else "")


_AXES = {
    "parameters": _Axis(
        lambda p: p.parameters,
        lambda p: (_model({**p.model, "width": None}), p.years, p.steps),
        lambda p: f"{p.steps} steps, {p.years:.2g} years",
    ),
    "simulated years": _Axis(
        lambda p: p.years, lambda p: (_model(p.model), p.steps), lambda p: f"{_network(p)}, {p.steps} steps"
    ),
    "operations of training": _Axis(
        lambda p: p.operations, lambda p: (_model(p.model), p.years), lambda p: f"{_network(p)}, {p.years:.2g} years"
    ),
}
_LEAST = 3  # places that make a curve


def curves(points: Sequence[Point], axis: str) -> Iterator[Curve]:
    """All curves of three places or more along an axis, the cheapest first.

    Args:
      points: Of any stores, networks and recipes; what is not alike is not joined.
      axis: One of ``Curve.axis``.
    """
    along = _AXES[axis]
    found: dict[tuple[Any, ...], list[Point]] = {}
    for p in sorted(points, key=lambda p: (p.operations, p.years)):
        recipe = json.dumps(p.recipe, sort_keys=True)
        same = (p.data_hash, p.optimiser, p.learning_rate, p.batch_size, recipe, *along.same(p))
        found.setdefault(same, []).append(p)
    for mine in found.values():
        if len({along.of(p) for p in mine}) >= _LEAST:
            yield Curve(axis, along.held(mine[0]), tuple(sorted(mine, key=along.of)))


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that none with fewer operations beats: what to train with so much compute, the cheapest first."""
    best: list[Point] = []
    for p in sorted(points, key=lambda p: (p.operations, p.score)):
        if not best or p.score < best[-1].score:
            best.append(p)
    return best


def tell(points: Sequence[Point]) -> str:
    """The exponents of all curves and the frontier of every store, as Markdown tables."""
    rows = []
    for axis in _AXES:
        for c in curves(points, axis):
            places = ", ".join(f"{x:.2g}" for x in dict.fromkeys(c.x))
            exponent = f"{c.slope.exponent:+.3f} [{c.slope.lower:+.3f}, {c.slope.upper:+.3f}]"
            rows.append([f"{axis}: {places}", c.held, str(len(c.points)), exponent])
    tables = [markdown_table(["varied", "held", "points", "exponent of the error [95 %]"], rows)]
    for data in dict.fromkeys(p.data_hash for p in points):
        mine = [p for p in points if p.data_hash == data]
        varied = [name for name in _made_by(mine[0]) if len({str(_made_by(p).get(name)) for p in mine}) > 1]
        head = ["operations", "parameters", *varied, "s", "least error"]
        rows = []
        for p in frontier(mine):
            made = [f"{x:.3g}" if isinstance(x := _made_by(p).get(name), float) else str(x) for name in varied]
            rows.append([f"{p.operations:.1e}", _millions(p), *made, f"{p.seconds:.0f}", f"{p.score:.3f}"])
        tables.append(markdown_table(head, rows))
    return "\n\n".join(tables)


def _made_by(point: Point) -> dict[str, Any]:
    """What whoever measured it chose."""
    recipe = {name: getattr(point, name) for name in ("optimiser", "learning_rate", "batch_size", "steps", "years")}
    return {**point.model, **recipe}


def plot(points: Sequence[Point], path: Path) -> None:
    """Draws the curves along each axis with the fitted slopes.

    Args:
      points: Of any stores, networks and recipes.
      path: The picture.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator, NullFormatter

    figure = Figure(figsize=(13, 5), layout="constrained")
    for axes, axis in zip(figure.subplots(1, len(_AXES), sharey=True), _AXES, strict=True):
        axes.set(xscale="log", yscale="log", xlabel=axis)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_major_locator(LogLocator(subs=tuple(range(1, 10))))
        for side in (axes.xaxis, axes.yaxis):
            side.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))
        axes.yaxis.set_major_formatter("{x:.1f}")
        axes.grid(True, which="major", alpha=0.3)
        found = list(curves(points, axis))
        for c, colour in zip(found, colormaps["viridis"](np.linspace(0, 0.9, len(found))), strict=True):
            ends = np.array([c.x[0], c.x[-1]])
            axes.plot(c.x, [p.score for p in c.points], "o", color=colour, label=f"{c.held}: {c.slope.exponent:+.3f}")
            axes.plot(ends, c.slope.factor * ends**c.slope.exponent, "-", color=colour, linewidth=1)
        if axis == "operations of training":
            for n, data in enumerate(dict.fromkeys(p.data_hash for p in points)):
                best = frontier([p for p in points if p.data_hash == data])
                label = None if n else "least error of all points"
                xs, ys = [p.operations for p in best], [p.score for p in best]
                axes.plot(xs, ys, "k:o", linewidth=1, markersize=9, markerfacecolor="none", label=label)
        if found:
            axes.legend(title="held: exponent", fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.15))
        else:
            axes.set_title("not measured")
    figure.axes[0].set_ylabel("error at day 3 / climatology's")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


@as_command
def main(argv: Sequence[str]) -> None:
    """Measures points or draws all of them, from the command line."""
    parser = argparse.ArgumentParser(prog="scaling", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    some = commands.add_parser("measure", help="train and score points, and append them")
    some.add_argument("config", metavar="CONFIG", help="the experiment whose store and recipe are used")
    some.add_argument("--steps", type=positive, nargs="+", required=True, help="optimiser steps, a point each")
    some.add_argument("--years", type=float, nargs="+", help="years of training data; all there are when left out")
    some.add_argument("--seed", type=int, nargs="+", default=[0], help="of weights and order")
    some.add_argument("--set", action="append", default=[], metavar="a.b=v", help="override one value of CONFIG")
    drawn = commands.add_parser("plot", help="draw all points with their slopes, and print these")
    drawn.add_argument("out", type=Path, metavar="PICTURE")
    for command in (some, drawn):
        command.add_argument("--points", type=Path, default=POINTS, help=f"the file of points ({POINTS})")
    arguments = parser.parse_args(argv)
    if arguments.command == "plot":
        points = read_points(arguments.points)
        plot(points, arguments.out)
        say(tell(points))
        return
    config = load_config(arguments.config, arguments.set)
    check_appendable(arguments.points, "--points")
    for steps, years, seed in itertools.product(arguments.steps, arguments.years or [None], arguments.seed):
        line = json.dumps(asdict(measure(config, steps, years, seed)))
        say(line)
        append_line(arguments.points, line)
