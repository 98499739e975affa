"""Zonal spectra against WeatherBench-2's values and against waves of known power."""

import golden
import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.grid import Grid
from emulator.evaluation.spectra import fine_scales, mean_power, resolved_wavenumber


@golden.needs_golden
@pytest.mark.parametrize("grid", ["g1", "g2"])
def test_mean_power_is_that_of_weatherbench2(grid):
    values, here = golden.expected(grid, "weatherbench2"), golden.grid_of(grid)
    hours = golden.inputs(grid)["lead_time"].values
    lead = int(np.flatnonzero(hours == 24)[0])
    circumference = 2 * np.pi * 6367.5e3 * np.cos(np.radians(here.latitude))  # of WeatherBench-2's Earth
    for variable in ("geopotential/500", "2m_temperature"):
        ensemble, truth, _ = golden.fields(grid, variable)
        for kind, field in (("forecast", ensemble[0, 0, lead]), ("truth", truth[0, lead])):
            spectra = np.asarray(values[f"zonal_energy_spectrum_{kind}"][variable])
            power = spectra[:, 1:] / circumference[:, None]
            golden.assert_matches(mean_power(field, here), here.latitude_weights @ power / here.shape[0])


def test_one_wave_has_its_power_at_its_wavenumber():
    grid = Grid.gaussian(16)
    wave = 3.0 * np.cos(5 * np.radians(grid.longitude) + 0.3) * np.ones((16, 1))
    spectrum = mean_power(wave, grid)
    assert spectrum[4] == pytest.approx(9 / 2, rel=1e-12)
    assert np.delete(spectrum, 4).max() < 1e-12


def test_mean_power_is_the_variance_along_the_circles():
    rng = np.random.default_rng(0)
    grid = Grid.gaussian(8)
    field = 1e4 + rng.normal(size=(3, *grid.shape))
    power = mean_power(field, grid)
    assert power.shape == (3, 8)
    power[..., -1] /= 2  # the Nyquist wavenumber counts double
    variance = (field.var(axis=-1) * grid.latitude_weights).mean(axis=-1)
    np.testing.assert_allclose(power.sum(axis=-1), variance, rtol=1e-10)


def test_fine_scales_are_the_upper_half_of_the_resolved_wavenumbers():
    grid = Grid.gaussian(32)
    assert resolved_wavenumber(grid) == 21 and resolved_wavenumber(Grid.gaussian(48)) == 31  # as T31 on 96 x 48
    wave = {m: 2.0 * np.sin(m * np.radians(grid.longitude)) * np.ones((32, 1)) for m in (0, 10, 11, 21, 22)}
    found = {m: float(mean_power(field, grid)[fine_scales(grid)].sum()) for m, field in wave.items()}
    assert found[11] == pytest.approx(2.0) and found[21] == pytest.approx(2.0)
    assert max(found[0], found[10], found[22]) < 1e-12


def test_refused_where_longitudes_do_not_close():
    grid = Grid.from_arrays(np.arange(15.0, 76.0, 2.5), np.arange(200.0, 331.0, 2.5))
    with pytest.raises(DataError, match="does not go round the globe"):
        mean_power(np.zeros(grid.shape), grid)
