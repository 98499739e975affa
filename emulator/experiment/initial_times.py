"""From when and for how long forecasts are made: the times of a comparison, and those that corrections learn from."""

from __future__ import annotations

import numpy as np

from data_prep import clock
from data_prep.errors import ConfigError, DataError
from data_prep.files.arrays import spread
from data_prep.preparation.store import Split, Store
from emulator.config import EvaluateConfig

_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0


def verified_leads(config: EvaluateConfig) -> np.ndarray:
    """Verified leads, ``timedelta64[ns]``, the first one step after the initial time."""
    hours = np.arange(config.lead_step_hours, config.lead_hours + 1, config.lead_step_hours)
    return hours.astype("timedelta64[h]").astype("timedelta64[ns]")


def initial_indices(store: Store, config: EvaluateConfig) -> np.ndarray:
    """Time indices of the initial times: regular in every segment of the split, each with its whole forecast inside the
    segment, so that truth exists at every lead and all forecasters share all of them.

    Raises:
      DataError: no segment of the split is long enough.
      ConfigError: the intervals are no multiples of the store's time step.
    """
    indices = _starts(store, config, config.split, _steps(store, config, "init_every_hours"))
    if indices.size == 0:
        raise DataError(
            f"evaluate: no {config.split} segment holds a forecast of {config.lead_hours} h; "
            "shorten evaluate.lead_hours or lengthen the split"
        )
    return indices if config.max_inits is None else indices[spread(indices.size, config.max_inits)]


def training_indices(store: Store, config: EvaluateConfig) -> np.ndarray:
    """Time indices of the training forecasts that corrections are fitted to: ``evaluate.correction_inits`` at most.

    They start at hours of the day at which the comparison's forecasts start. The training split is cut into as many
    equal parts as are wanted, and each gives one, at a place within it that moves on by the golden ratio: so neither
    members nor years nor seasons beat with the choice.

    Raises:
      DataError: no training segment is long enough.
    """
    at_hours = clock.seconds_of_day(store.times[initial_indices(store, config)])
    starts = _starts(store, config, "train", 1)
    starts = starts[np.isin(clock.seconds_of_day(store.times[starts]), at_hours)]
    if starts.size == 0:
        raise DataError(
            f"evaluate.correction_inits: no training segment holds a forecast of {config.lead_hours} h; "
            "shorten evaluate.lead_hours, or set it to 0 to go without corrected physics"
        )
    count = min(config.correction_inits, starts.size)
    part = np.arange(count)
    at = ((part + part * _GOLDEN % 1.0) * starts.size / count).astype(np.int64)
    return starts[np.maximum.accumulate(at - part) + part]  # parts of hardly one start each could give the same one


def _steps(store: Store, config: EvaluateConfig, key: str) -> int:
    span = np.timedelta64(getattr(config, key), "h")
    if span % store.timestep != np.timedelta64(0, "ns"):
        hours = clock.hours(store.timestep)
        raise ConfigError(f"evaluate.{key}: {getattr(config, key)} h is no multiple of the store's {hours:g} h")
    return int(span // store.timestep)


def _starts(store: Store, config: EvaluateConfig, split: Split, every: int) -> np.ndarray:
    _steps(store, config, "lead_step_hours")
    length = _steps(store, config, "lead_hours")
    starts = [np.arange(s.start, s.stop - length, every) for s in store.segments if s.split == split]
    return np.concatenate([np.empty(0, dtype=np.int64), *starts]).astype(np.int64)
