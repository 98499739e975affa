"""A driving data set, global or of a larger region, as lateral boundary values on a regional grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep import clock
from data_prep.config import DataConfig, VariableConfig
from data_prep.errors import DataError
from data_prep.grid import Grid
from data_prep.lateral import rim_mask
from data_prep.reading import checks
from data_prep.reading.inputs import open_onto
from data_prep.reading.locations import Location
from data_prep.reading.sources import clip_to_minimum
from data_prep.reading.timelines import Mending, Timeline
from data_prep.spec import StateSpec


@dataclass(frozen=True, eq=False)
class Driving:
    """Lateral boundary values at any times that the driving data set holds; made by ``open_driving``.

    Attributes:
      spec: Of the regional state.
      timelines: The prognostic variables on the regional grid.
      mask: True in the rim, ``(latitude, longitude)``.
    """

    spec: StateSpec
    timelines: Mapping[str, Timeline]
    mask: np.ndarray

    def at(self, times: np.ndarray) -> np.ndarray:
        """Values at these times: SI, float32 ``(time, latitude, longitude, lateral)``, zero in the interior.

        Raises:
          DataError: a time is missing, or values in the rim are missing or impossible.
        """
        self.refuse_gaps(times)
        parts = [self._read(v.name, times) for v in self.spec.with_role("prognostic")]
        return np.where(self.mask[..., None], np.concatenate(parts, axis=-1), np.float32(0))

    def refuse_gaps(self, times: np.ndarray) -> None:
        """Refuses a data set that lacks some of these times.

        Raises:
          DataError: names the first that is missing, and how many are.
        """
        for name, timeline in self.timelines.items():
            missing = np.setdiff1d(times, timeline.times)
            if missing.size:
                span = " to ".join(clock.text(t) for t in timeline.times[[0, -1]])
                raise DataError(
                    f"{timeline.sources[0].path} (data.lateral): no {name} at {clock.text(missing[0])} "
                    f"({missing.size} of {times.size} times are missing; there are {timeline.times.size} from {span}); "
                    "add them, or leave those times out"
                )

    def _read(self, name: str, times: np.ndarray) -> np.ndarray:
        timeline = self.timelines[name]
        where = f"{timeline.sources[0].path} (data.lateral)"
        rows = np.searchsorted(timeline.times, times)
        steps = np.diff(rows)
        if rows.size > 1 and (steps == steps[0]).all() and steps[0] > 0:
            values = timeline.read(int(rows[0]), int(rows[-1]) + 1, int(steps[0]))
        else:
            values = np.concatenate([timeline.read(row, row + 1) for row in rows.tolist()])
        checks.check_values(values[:, self.mask][:, None], self.spec[name].channels, self.spec, times, where)
        return clip_to_minimum(values, timeline.variable.minimum)


def open_driving(
    paths: Sequence[Location],
    config: DataConfig,
    spec: StateSpec,
    grid: Grid,
    mendings: Mapping[str, Mending] | None = None,
) -> Driving:
    """Opens a driving data set lazily; its fields are brought to the regional grid bilinearly.

    Its variables may have the names that the regional files give them, or their own.

    Args:
      paths: Its files.
      config: The section of the regional data, with ``lateral``.
      spec: Of the regional state: its prognostic variables and levels are what is read.
      grid: The regional grid.
      mendings: What is mended of the files, where it is known.

    Raises:
      DataError: one line: what is missing, does not cover the grid, or cannot be read; or the grid is global.
    """
    assert config.lateral is not None
    mask = rim_mask(grid, config.lateral.rim)
    wanted = {
        v.name: VariableConfig(
            source=config.prognostic[v.name].source, levels=list(v.levels) if v.levels else None, minimum=v.minimum
        )
        for v in spec.with_role("prognostic")
    }
    nothing: dict[str, Any] = {"diagnostic": {}, "forcing": {}, "static": {}, "computed": [], "exclude": []}
    # on the region, fields that are flipped in a larger file are no mirror images
    repair = [r for r in config.repair if r != "flipped_latitudes"]
    section = config.model_copy(
        update={"prognostic": wanted, "lateral": None, "regrid": None, "repair": repair, **nothing}
    )
    return Driving(spec, open_onto(paths, section, spec, grid, mendings), mask)
