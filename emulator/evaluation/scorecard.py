"""What holds over many cells at once: false discoveries on a scorecard, and winning everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from emulator.evaluation.significance import discovered

_CELL = ("variable", "lead_time", "region")


def significant_cells(p: xr.DataArray, confidence: float) -> xr.DataArray:
    """Which cells of each pair's scorecard differ, with false discoveries controlled over all of its cells.

    Args:
      p: P-values by ``(forecaster, reference, variable, lead_time, region)``; NaN is no test.
      confidence: One minus the chance that anything is called significant where nothing differs.

    Returns:
      int8, the same dimensions; 1 where significant.
    """
    dims = ("forecaster", "reference", *_CELL)
    values = p.transpose(*dims).values
    out = np.zeros(values.shape, np.int8)
    for pair in np.ndindex(*values.shape[:2]):
        out[pair] = discovered(values[pair], confidence)
    text = "1 where the difference in rmse is significant, false discoveries controlled over all cells of the pair"
    return xr.DataArray(out, {d: p[d] for d in dims}, dims, attrs={"long_name": text})


def better_everywhere(upper: xr.DataArray, headline: Sequence[str]) -> xr.DataArray:
    """Whether a forecaster is better at every lead in every headline variable, beyond doubt in each.

    An intersection-union test (Berger 1982): the claim is that all hold, so each is tested at the full level and the
    chance of a wrong claim is at most that of any one of them. No correction for their number is needed.

    Args:
      upper: Upper ends of the pointwise intervals of the difference, by ``(forecaster, reference, variable,
        lead_time, region)``.
      headline: Variables; all if empty.

    Returns:
      int8 ``(forecaster, reference, region)``; 0 where a score does not exist.
    """
    chosen = upper.sel(variable=list(headline)) if headline else upper
    everywhere = (chosen < 0).all(["variable", "lead_time"]).transpose("forecaster", "reference", "region")
    text = "1 where the whole interval of the difference in rmse is below zero at all leads in all headline variables"
    return everywhere.astype(np.int8).assign_attrs(long_name=text)
