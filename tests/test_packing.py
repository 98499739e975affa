"""Packed forcing tables: within half a step of what was packed, and small."""

import zlib

import numpy as np

from emulator.packing import pack_table, unpack_table


def table():
    """A yearly cycle from monthly values, a channel that jumps from end to end of its range, one that is constant."""
    rng = np.random.default_rng(0)
    months, day = rng.uniform(275, 295, (6, 8, 13)), np.linspace(0, 12, 366)
    season = np.stack([np.interp(day, np.arange(13), m) for m in months.reshape(-1, 13)], axis=-1).reshape(366, 6, 8)
    jumps = (np.sin(np.arange(366)[:, None, None] / 20 + 6 * rng.uniform(size=(6, 8))) > 0).astype(float)
    return np.stack([season, jumps, np.full_like(season, 0.3)], axis=-1).astype(np.float32)


def test_a_table_comes_back_within_half_a_step():
    values = table()
    back = unpack_table(pack_table(values))
    assert back.dtype == np.float32
    step = np.ptp(values, axis=(0, 1, 2)) / 65535
    rounding = np.spacing(np.abs(values).max(axis=(0, 1, 2)))
    assert (np.abs(back - values) <= step / 2 + rounding).all()


def test_a_packed_table_compresses_to_a_quarter_of_the_table_compressed():
    values = table()
    packed = zlib.compress(pack_table(values)["change"].tobytes())
    assert len(packed) < len(zlib.compress(values.tobytes())) / 4
