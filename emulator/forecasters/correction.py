"""What training forecasts tell of a model's errors: its mean error, and how far its anomaly is to be believed.

A network learns the truth's climate while a raw physics model keeps its own, so a race against the raw model alone may
be won by bias. Here the model gets the same chance: its mean error by lead, channel and grid point is taken off
(debiased), and what is left of the anomaly is then scaled by its regression on the truth's (damped), which is the best
that a factor can do for the squared error.

The mean error of a few dozen forecasts is mostly noise at small scales, and taking noise off adds error. So each scale
of it is kept only as far as different forecasts agree on it. With e the errors of the folds g of n forecasts, the
product of two different folds has the true mean error's square as its expectation, whatever the size of the noise:

    kept share = sum over g != h of <e_g, e_h> / (n^2 - sum n_g^2)  over  <m, m>,    m = sum e_g / n

clipped to [0, 1]: the positive-part estimator of Stein (1981, doi:10.1214/aos/1176345632), with the noise measured by
cross-validation. Scales are the area mean, the rest of the zonal mean, and octaves of zonal wavenumber: orthogonal
under area weights, and sharp enough to keep what is locked to mountains and coasts where it is sure. Folds are
contiguous in the record, because forecasts from neighbouring times err alike.

The damping is fitted to errors out of sample: each fold is debiased by the forecasts of the other folds.

Measured with SPEEDY T21 against T31 (24 test forecasts from another member): debiasing by 8, 16 or 32 training
forecasts takes 9, 10 or 11 % off the RMSE at 24 h, and 5 to 6 % at 240 h, where damping takes 13 %; means over 35
channels, none of which gets worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.files.arrays import rows_at
from data_prep.files.disk import reading
from data_prep.preparation.store import Store
from data_prep.spec import stack_channels
from emulator.forecast_form import open_forecasts

_FOLDS = 8  # more would leave neighbours in time apart no better, and cost memory
_BLOCK_BYTES = 64 * 2**20  # of the sums; reading and filtering take some four times that


@dataclass(frozen=True, eq=False)
class Correction:
    """How a model's forecasts are corrected, by lead.

    Attributes:
      lead_times: ``timedelta64[ns] (lead,)``.
      mean_error: What to take off, float32 ``(lead, latitude, longitude, state_channel)``.
      damping: Factor on the anomaly of the debiased forecast, within [0, 1], float32 ``(lead, state_channel)``.
      forecasts: From how many training forecasts it was fitted.
    """

    lead_times: np.ndarray
    mean_error: np.ndarray
    damping: np.ndarray
    forecasts: int

    def rows(self, leads: np.ndarray) -> np.ndarray:
        """Where these leads lie on the lead axis.

        Raises:
          DataError: a lead was not fitted.
        """
        if not np.isin(leads, self.lead_times).all():
            raise DataError("correction: asked for leads that the training forecasts do not have; make them again")
        return np.searchsorted(self.lead_times, leads)


@dataclass(frozen=True, eq=False)
class FoldSums:
    """Additive statistics of training forecasts, by fold.

    Attributes:
      counts: Forecasts of each fold, float64 ``(fold,)``.
      forecast, truth: Sums of the anomalies from climatology, float64 ``(fold, lead, latitude, longitude, channel)``.
      product, square: Sums over all forecasts of the area means of forecast times truth anomaly, and of the forecast
        anomaly's square, float64 ``(lead, channel)``.
    """

    counts: np.ndarray
    forecast: np.ndarray
    truth: np.ndarray
    product: np.ndarray
    square: np.ndarray

    @classmethod
    def zeros(cls, folds: int, leads: int, grid_shape: tuple[int, int], channels: int) -> FoldSums:
        """Sums of no forecasts."""
        fields = (folds, leads, *grid_shape, channels)
        return cls(np.zeros(folds), np.zeros(fields), np.zeros(fields), *np.zeros((2, leads, channels)))

    def add(self, fold: int, forecast: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> None:
        """Adds one forecast.

        Args:
          fold: Its fold.
          forecast, truth: Anomalies, ``(lead, latitude, longitude, channel)``.
          weights: Of the latitudes, summing to one.
        """
        forecast, truth = forecast.astype(np.float64), truth.astype(np.float64)
        self.counts[fold] += 1
        self.forecast[fold] += forecast
        self.truth[fold] += truth
        self.product[:] += area_product(forecast, truth, weights)
        self.square[:] += area_product(forecast, forecast, weights)


def fit_correction(path: Path, store: Store) -> Correction:
    """Fits the correction of a model to a file of its raw forecasts from training initial times.

    Memory does not grow with the number of forecasts.

    Args:
      path: The forecast file.
      store: The truth and its climatology.

    Raises:
      DataError: the file does not fit the store.
    """
    weights = store.grid.latitude_weights / store.grid.latitude_weights.sum()
    with reading(path), open_forecasts(path) as file:
        times = file["init_time"].values.astype("datetime64[ns]")
        leads = file["lead_time"].values.astype("timedelta64[ns]")
        rows = np.flatnonzero(np.isin(store.times, times))
        if rows.size != times.size:
            raise DataError(f"{path}: {times.size - rows.size} of its initial times are not in the store")
        positions, _ = rows_at(times, store.times[rows])
        steps = leads // store.timestep
        folds = np.arange(rows.size) * min(_FOLDS, rows.size) // rows.size
        shape = (*store.grid.shape, len(store.spec.state_channels))
        width = max(1, int(_BLOCK_BYTES // (2 * 8 * (folds[-1] + 1) * np.prod(shape))))
        parts = []
        for first in range(0, leads.size, width):
            block = slice(first, first + width)
            sums = FoldSums.zeros(int(folds[-1]) + 1, steps[block].size, shape[:2], shape[2])
            for fold, at, row in zip(folds.tolist(), positions.tolist(), rows.tolist(), strict=True):
                fields = file.isel(init_time=[at], lead_time=block)
                forecast = stack_channels(fields, store.spec.state_channels, source=str(path))[0]
                begin, end = row + int(steps[block][0]), row + int(steps[block][-1]) + 1
                truth = store.read_state(begin, end)[steps[block] - steps[block][0]]
                climate = store.climatology.at(store.times[row] + leads[block])
                sums.add(fold, forecast - climate, truth - climate, weights)
            parts.append(estimate(sums, weights))
    mean_error, damping = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Correction(leads, mean_error.astype(np.float32), damping.astype(np.float32), rows.size)


def estimate(sums: FoldSums, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean error and damping from the sums of training forecasts.

    Args:
      sums: Of at least one forecast in every fold.
      weights: Of the latitudes, summing to one.

    Returns:
      What to take off ``(lead, latitude, longitude, channel)`` and the factor on what is left ``(lead, channel)``, as
      in ``Correction``. From a single fold nothing is sure, and nothing is taken off.
    """
    n = sums.counts.sum()
    kept = _keep_what_folds_agree_on(sums.forecast - sums.truth, sums.counts, weights)
    total = kept.sum(axis=0)
    product, square = sums.product.copy(), sums.square.copy()
    for count, own, forecast, truth in zip(sums.counts, kept, sums.forecast, sums.truth, strict=True):
        others = (total - own) / max(n - count, 1.0)
        product -= area_product(others, truth, weights)
        square += count * area_product(others, others, weights) - 2 * area_product(others, forecast, weights)
    damping = np.divide(product, square, out=np.zeros_like(product), where=square > 0)
    return total / n, np.clip(damping, 0.0, 1.0)


def area_product(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area mean of a product, ``(..., latitude, longitude, channel)`` to ``(..., channel)``."""
    return np.einsum("y,...yxc,...yxc->...c", weights, a, b, optimize=True) / a.shape[-2]


def _keep_what_folds_agree_on(errors: np.ndarray, counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Scales every component of the folds' error sums by the share of it that is no noise (see the module).

    Args:
      errors: Sums by fold, ``(fold, lead, latitude, longitude, channel)``.
      counts: Forecasts of each fold.
      weights: Of the latitudes, summing to one.
    """
    size = errors.shape[-2]
    waves = np.fft.rfft(errors, axis=-2, norm="forward")  # (fold, lead, latitude, wavenumber, channel)
    overall = np.einsum("y,glyc->glc", weights, waves[..., 0, :].real)[:, :, None, :]
    waves[..., 0, :] -= overall
    wavenumber = np.arange(waves.shape[-2])
    both_signs = np.where((wavenumber == 0) | (2 * wavenumber == size), 1.0, 2.0)
    octave = np.where(wavenumber > 0, np.log2(np.maximum(wavenumber, 1)).astype(int) + 1, 0)
    starts = np.flatnonzero(np.diff(octave, prepend=-1))

    def power(coefficients: np.ndarray) -> np.ndarray:
        squares = coefficients.real**2 + coefficients.imag**2
        by_wavenumber = np.einsum("m,y,...ymc->...mc", both_signs, weights, squares, optimize=True)
        return np.add.reduceat(by_wavenumber, starts, axis=-2)

    share = _share(power(waves.sum(axis=0)), power(waves).sum(axis=0), counts)
    waves *= np.take(share, octave, axis=-2)[None, :, None]
    waves[..., 0, :] += overall * _share(overall.sum(axis=0) ** 2, (overall**2).sum(axis=0), counts)
    return np.fft.irfft(waves, n=size, axis=-2, norm="forward")


def _share(of_sum: np.ndarray, of_folds: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The share of a mean's power that is no noise, from the powers of all folds' sum and of each fold, summed."""
    pairs = counts.sum() ** 2 - (counts**2).sum()
    if pairs == 0:
        return np.zeros_like(of_sum)
    signal, total = (of_sum - of_folds) / pairs, of_sum / counts.sum() ** 2
    return np.clip(np.divide(signal, total, out=np.zeros_like(total), where=total > 0), 0.0, 1.0)
