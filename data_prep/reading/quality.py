"""Quality control: what is wrong with a record, by variable and time.

Two kinds of defect show in a single field: missing values and impossible ones. Three show between neighbours in time: a
field that repeats the one before to the last bit (stuck), one that has a single value everywhere where others have not
(uniform: a chunk that was lost reads as its fill value), and one that resembles the mirror image of the one before
more than the one before itself (latitudes flipped, as single days of ARCO-ERA5 are). How far real fields are from
their mirror image was measured (docs/data.md): a factor of three the other way does not happen by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from data_prep import clock
from data_prep.errors import percent
from data_prep.files.arrays import unbroken_runs
from data_prep.grid import Grid
from data_prep.reading.slips import LIKE_CELSIUS, hint, impossible_and_unusual, slip_of
from data_prep.variables import changes_every_step, is_accumulation, is_never_uniform, tells_orientation

Severity = Literal["error", "warning"]
Kind = Literal[
    "duplicate",
    "gap",
    "uneven grid",
    "missing",
    "impossible",
    "unusual",
    "unit slip",
    "stuck",
    "uniform",
    "flipped latitudes",
    "unclear latitudes",
    "running sums",
    "constant",
]

UNCLEAR = "north and south are exchanged in one half of the times or the other, and nothing in this season tells which"
UNIFORM = "has one value everywhere, and not at other times: a lost chunk?"
_MIRROR_RATIO = 0.3
_SAMPLED_POINTS = 24  # rows and columns that stand for a field when neighbours are compared
_LEAST_ROWS, _LEAST_SPAN_DEG = 8, 30.0  # in smaller boxes a front may turn a gradient round
_MANY_VALUES, _MOSTLY = 32, 0.75  # of a sample, or of its points where these are few
_BLOCK_BYTES = 2**24
_CLEARLY = 1e-3  # of the highest value: packing may move a field by less
_LEAST_POINTS = 5  # of a sample that change from one time to the next, for rain to be there
_FEW_FALL = 0.02  # of those that rise, and of the days
_LEAST_DAYS, _LEAST_HOURS, _MOST_RESTARTS = 5, 3, 2  # of running sums


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or may be.

    Attributes:
      severity: Errors are refused by preparation unless the config says otherwise.
      kind: What it is.
      channel: Variable, with its level.
      first, last: First and last time, ``None`` for fields without time.
      count: Times it concerns.
      text: What was found, half a sentence.
    """

    severity: Severity
    kind: Kind
    channel: str
    first: np.datetime64 | None
    last: np.datetime64 | None
    count: int
    text: str


@dataclass(frozen=True)
class Summary:
    """What is kept of each field of a variable, arrays ``(row, level)``.

    Attributes:
      low, high: Range of its finite values, NaN where there are none.
      missing: Share of its points that are NaN or infinite.
      stuck: Whether it repeats the row before, and not by chance.
      mirrored: Whether it is turned round against the row before, ``(row,)``: all levels together.
      same: Whether it repeats the row before, for whatever reason, ``(row,)``: all levels together.
      rises, falls: Points of a sample, on all levels, that are clearly above or below the row before, ``(row,)``.
    """

    low: np.ndarray
    high: np.ndarray
    missing: np.ndarray
    stuck: np.ndarray
    mirrored: np.ndarray
    same: np.ndarray
    rises: np.ndarray
    falls: np.ndarray

    @classmethod
    def join(cls, parts: Sequence[Summary]) -> Summary:
        """Consecutive blocks as one."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def thin(values: np.ndarray) -> np.ndarray:
    """A sample of fields by which neighbours in time are compared: some 24 rows and columns, the same both ways.

    Args:
      values: ``(row, latitude, longitude, level)``.
    """
    half = np.arange(0, (values.shape[1] + 1) // 2, -(-values.shape[1] // _SAMPLED_POINTS))
    rows = np.union1d(half, values.shape[1] - 1 - half)
    return values[:, rows, :: -(-values.shape[2] // _SAMPLED_POINTS)]


@np.errstate(over="ignore", invalid="ignore")  # of a fill value of 1e20 that is not declared; `judge` says so
def stuck_and_mirrored(samples: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Compares fields with those before them.

    Args:
      samples: Of ``thin``, ``(row + 1, latitude, longitude, level)``: the first one is only compared with.
      grid: Of the fields; small boxes are not searched for mirror images.

    Returns:
      Whether each level repeats, and not by chance, ``(row, level)``; whether the fields are turned round, ``(row,)``.
    """
    now, before = samples[1:], samples[:-1]
    varies = (before != before[:, :1, :1]).any(axis=(1, 2))  # a field without any rain may well repeat
    equal = now == before
    missing = ~np.isfinite(samples)
    if missing.any():
        equal |= np.isnan(now) & np.isnan(before)
        varies &= ~missing[:-1].all(axis=(1, 2))
    stuck = equal.all(axis=(1, 2)) & varies
    for row, level in np.argwhere(stuck):
        stuck[row, level] = _has_many_values(before[row, ..., level])
    span = grid.latitude[-1] - grid.latitude[0]
    if samples.shape[1] < _LEAST_ROWS or span < _LEAST_SPAN_DEG:
        return stuck, np.zeros(now.shape[0], bool)
    filled = np.where(missing, 0, samples) if missing.any() else samples
    # Single precision is enough once the mean of each level is taken off.
    fields = filled - filled.sum(axis=(0, 1, 2)) / np.maximum((~missing).sum(axis=(0, 1, 2)), 1, dtype=samples.dtype)
    a, b = fields[1:], fields[:-1]
    if missing.any():
        unknown = missing[1:] | missing[:-1]
        unknown |= unknown[:, ::-1]
        a, b = np.where(unknown, 0, a), np.where(unknown, 0, b)
    spread = b.var(axis=(1, 2))
    weight = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
    distance, mirror = (
        (np.einsum("tyxl,tyxl->tl", change, change) * weight).sum(axis=1) for change in (a - b, a[:, ::-1] - b)
    )
    return stuck, mirror < _MIRROR_RATIO * distance


def _has_many_values(field: np.ndarray) -> bool:
    """Whether a field cannot repeat by chance, as one can that packing has left a few values."""
    finite = field[np.isfinite(field)]
    return np.unique(finite).size >= min(_MANY_VALUES, _MOSTLY * finite.size)


def uniform(samples: np.ndarray) -> np.ndarray:
    """Whether fields have one value everywhere, ``(row, level)``; arguments as of ``stuck_and_mirrored``."""
    return (samples == samples[:, :1, :1]).all(axis=(1, 2))


def compare(samples: np.ndarray, before: np.ndarray | None, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Compares each field of a block with the one before it.

    Args:
      samples: ``thin`` of the block.
      before: That of the row before it, one row; ``None`` at the beginning.
      grid: Of the fields.

    Returns:
      As ``stuck_and_mirrored``; the first row of a record is neither.
    """
    stuck, mirrored = stuck_and_mirrored(np.concatenate([samples[:1] if before is None else before, samples]), grid)
    if before is None:
        stuck[0], mirrored[0] = False, False
    return stuck, mirrored


def _summarise(values: np.ndarray, samples: np.ndarray, before: np.ndarray | None, grid: Grid) -> Summary:
    """Looks at a block of a variable ``(row, latitude, longitude, level)``; other arguments as of ``compare``."""
    stuck, mirrored = compare(samples, before, grid)
    finite = np.isfinite(values)
    low = np.where(finite, values, np.inf).min(axis=(1, 2))
    high = np.where(finite, values, -np.inf).max(axis=(1, 2))
    empty = ~finite.any(axis=(1, 2))
    low, high = np.where(empty, np.nan, low), np.where(empty, np.nan, high)
    changes = _changes(np.concatenate([samples[:1] if before is None else before, samples]))
    return Summary(low, high, 1.0 - finite.mean(axis=(1, 2)), stuck, mirrored, *changes)


@np.errstate(over="ignore", invalid="ignore")
def _changes(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``Summary.same``, ``rises`` and ``falls`` of samples, the first of which is only compared with."""
    same = (samples[1:] == samples[:-1]) | (np.isnan(samples[1:]) & np.isnan(samples[:-1]))
    change, clearly = np.diff(samples, axis=0), _CLEARLY * np.nanmax(samples, initial=0.0)
    rises, falls = ((signed > clearly).sum(axis=(1, 2, 3)) for signed in (change, -change))
    return same.all(axis=(1, 2, 3)), rises, falls


def rows_at_once(grid: Grid, n_levels: int) -> int:
    """Rows of a variable that ``scan`` reads at a time."""
    return max(1, _BLOCK_BYTES // (4 * grid.shape[0] * grid.shape[1] * max(1, n_levels)))


def scan(
    read: Callable[[int, int], np.ndarray],
    n_rows: int,
    grid: Grid,
    n_levels: int,
    before: np.ndarray | None = None,
    keep: Callable[[int, np.ndarray, np.ndarray], None] | None = None,
) -> tuple[Summary, np.ndarray]:
    """Looks at a whole variable, some 16 MiB at a time.

    Args:
      read: ``read(start, stop)`` gives rows ``(row, latitude, longitude, level)``.
      n_rows: How many there are.
      grid: Of the fields.
      n_levels: How many levels a row has.
      before: As of ``compare``.
      keep: Is given the first row of each block, ``thin`` of its rows and whether each is mirrored.

    Returns:
      What was seen, and ``thin`` of the last row: the ``before`` of rows that continue these.
    """
    at_once = rows_at_once(grid, n_levels)
    parts: list[Summary] = []
    for start in range(0, n_rows, at_once):
        values = read(start, min(start + at_once, n_rows))
        samples = thin(values)
        parts.append(_summarise(values, samples, before, grid))
        if keep is not None:
            keep(start, samples, parts[-1].mirrored)
        before = samples[-1:].copy()
    assert before is not None
    return Summary.join(parts), before


def judge(
    summary: Summary,
    times: np.ndarray,
    name: str,
    units: str,
    levels: Sequence[float],
    *,
    on_pressure: bool,
    celsius: np.ndarray | None = None,
) -> list[Finding]:
    """What is wrong with a variable, by level and unbroken run of times; ``judge_flips`` says the rest.

    Args:
      summary: Of all its rows.
      times: ``datetime64`` of the rows; empty for a field without time.
      name: Canonical name.
      units: SI unit.
      levels: Top first; empty for a surface field.
      on_pressure: Whether the levels are hPa.
      celsius: ``slips.in_celsius`` of the whole record at these rows; none of them when left out.
    """
    celsius = np.zeros(summary.low.shape[0], bool) if celsius is None else celsius
    out = [
        finding
        for i, level in enumerate(levels or (None,))
        for finding in _judge_level(summary, i, times, name, units, level, celsius, on_pressure=on_pressure)
    ]
    constant = constant_levels(summary, levels) if times.size != 1 else ()
    if constant:
        where = f" at {', '.join(f'{level:g}' for level in constant if level is not None)}" if levels else ""
        text = f"the same everywhere and always{where}: nothing to learn from"
        out.append(Finding("warning", "constant", name, *_ends(times), summary.low.shape[0], text))
    return out


def _judge_level(
    summary: Summary,
    i: int,
    times: np.ndarray,
    name: str,
    units: str,
    level: float | None,
    celsius: np.ndarray,
    *,
    on_pressure: bool,
) -> Iterator[Finding]:
    """Level ``i``; arguments as of ``judge``."""
    channel = name if level is None else f"{name}@{level:g}"
    pressure = level if on_pressure else None
    low, high, missing = summary.low[:, i], summary.high[:, i], summary.missing[:, i]

    def found(severity: Severity, kind: Kind, rows: np.ndarray, text: Callable[[int], str]) -> Iterator[Finding]:
        for run in unbroken_runs(np.flatnonzero(rows)):
            yield Finding(severity, kind, channel, *_ends(times[run] if times.size else times), run.size, text(run[0]))

    def said(row: int) -> str:
        looks = LIKE_CELSIUS if celsius[row] else hint(name, units, pressure, float(low[row]), float(high[row]))
        return f"{low[row]:g} to {high[row]:g} {units}{looks}"

    usual = float(np.median(missing))
    if usual > 0:
        everywhere = f"NaN in {percent(usual)} of the points at most times"
        yield Finding("warning", "missing", channel, *_ends(times), int((missing > 0).sum()), everywhere)
    gone = missing == 1  # which nothing can be filled with
    if is_part_of_state(name, units):  # the points of a sea under ice may come and go
        gone |= missing > usual + 1e-9
    yield from found(
        "error", "missing", gone, lambda row: f"NaN or infinity in {percent(float(missing[row]))} of the points"
    )
    one_value = (low == high) & (missing == 0) & is_never_uniform(name, units)
    if one_value.all():  # which inspect tells from what is constant in all files
        one_value[:] = False
    ranges = zip(low.tolist(), high.tolist(), strict=True)
    slipped = ~one_value & (celsius | [slip_of(name, units, pressure, a, b) is not None for a, b in ranges])
    impossible, unusual = (rows & ~slipped & ~one_value for rows in impossible_and_unusual(name, units, low, high))
    yield from found("error", "unit slip", slipped, said)
    yield from found("error", "impossible", impossible, said)
    yield from found("warning", "unusual", unusual, lambda row: f"{said(row)}, unusual in this unit")
    yield from found("error", "uniform", one_value, lambda _: UNIFORM)
    if times.size:
        severity: Severity = "error" if changes_every_step(name, units) else "warning"
        moves_on = np.append(True, np.diff(times) != np.timedelta64(0, "ns"))  # a time that is there twice does repeat
        yield from found(severity, "stuck", summary.stuck[:, i] & moves_on, lambda _: "repeats the field before it")


def judge_flips(flipped: np.ndarray, unclear: np.ndarray, times: np.ndarray, name: str, units: str) -> list[Finding]:
    """Which times of a variable lie the other way round.

    Args:
      flipped, unclear: Of ``Orientation.judge``, ``(row,)``.
      times, name, units: As of ``judge``.
    """
    severity: Severity = "error" if tells_orientation(name, units) else "warning"
    kinds: tuple[tuple[Kind, np.ndarray, str], ...] = (
        ("flipped latitudes", flipped & ~unclear, "north and south are exchanged"),
        ("unclear latitudes", unclear, UNCLEAR),
    )
    return [
        Finding(severity, kind, name, times[run[0]], times[run[-1]], run.size, text)
        for kind, rows, text in kinds
        for run in unbroken_runs(np.flatnonzero(rows))
    ]


def judge_sums(
    rises: np.ndarray, falls: np.ndarray, times: np.ndarray, interval: np.timedelta64, name: str
) -> list[Finding]:
    """Whether rain falls from one time to the next at an hour of the day or two alone, or never: sums that run up.

    Rain of its own falls as often as it rises. Hours at which it seldom does either tell nothing.

    Args:
      rises, falls: Of ``Summary``, ``(row,)``.
      times: ``datetime64`` of the rows, ascending.
      interval: Between them where none is missing.
      name: Canonical name.
    """
    told = np.append(False, np.diff(times) == interval) & (rises + falls >= _LEAST_POINTS)
    lower, hour_of = (falls > _FEW_FALL * rises)[told], (times - times.astype("datetime64[D]"))[told]
    hours, days = np.unique(hour_of, return_counts=True)
    shares = {hour: lower[hour_of == hour].mean() for hour in hours[days >= _LEAST_DAYS]}
    anew = [hour for hour, share in shares.items() if share > _FEW_FALL]
    up = len(shares) - len(anew)
    if shares and not anew and not lower.any():
        text = "never falls: summed since the start of a run? Take differences from time to time before"
        return [Finding("error", "running sums", name, *_ends(times), times.size, text)]
    if not 1 <= len(anew) <= _MOST_RESTARTS or min(shares[hour] for hour in anew) < 0.5 or up < _LEAST_HOURS:
        return []
    if 2 * up * interval < np.timedelta64(1, "D"):
        return []
    at = " and ".join(clock.text(np.datetime64(0, "D") + hour)[-5:] for hour in anew)
    text = f"falls at {at} alone: sums that run up from there? They are taken as sums over the interval of the times"
    return [Finding("warning", "running sums", name, *_ends(times), times.size, f"{text}: take differences before")]


def is_part_of_state(name: str, units: str) -> bool:
    """Whether NaN at some times is a defect of these times, and no property of the variable as of a sea's surface."""
    return changes_every_step(name, units) or is_accumulation(name)


def never_changes(summary: Summary) -> bool:
    """Whether every field repeats the one before, at all levels; false of a single one."""
    return summary.same.size > 1 and bool(summary.same[1:].all())


def constant_levels(summary: Summary, levels: Sequence[float]) -> tuple[float | None, ...]:
    """The levels that never and nowhere change; ``None`` stands for a surface field."""
    low = np.where(np.isnan(summary.low), np.inf, summary.low).min(axis=0)
    high = np.where(np.isnan(summary.high), -np.inf, summary.high).max(axis=0)
    return tuple(level for level, a, b in zip(levels or (None,), low, high, strict=True) if a == b)


def _ends(times: np.ndarray) -> tuple[np.datetime64 | None, np.datetime64 | None]:
    return (times[0], times[-1]) if times.size else (None, None)
