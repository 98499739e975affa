"""The same weather in every dialect of the world's archives gives the same store, bit by bit."""

from pathlib import Path

import numpy as np
import pytest
from world_files import DIALECTS, GRID, TIMES, canonical, world, world_config

from data_prep.preparation.pipeline import prepare
from data_prep.preparation.store import Store, open_store


def prepared(path: Path) -> Store:
    return open_store(prepare(world_config([str(path)]), path.parent / "store.zarr", path.parent))


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Store:
    return prepared(canonical(world(), tmp_path_factory.mktemp("canonical")))


def test_the_reference_holds_the_fields_themselves(reference):
    assert reference.grid == GRID
    np.testing.assert_array_equal(reference.times, TIMES)
    fields = reference.dataset(range(TIMES.size))
    for name, wanted in world().data_vars.items():
        np.testing.assert_array_equal(fields[name], wanted, err_msg=str(name))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_store_bit_by_bit(dialect, reference, tmp_path):
    store = prepared(DIALECTS[dialect](world(), tmp_path))
    assert store.grid == reference.grid
    np.testing.assert_array_equal(store.times, reference.times)
    state, wanted = store.read_state(0, TIMES.size), reference.read_state(0, TIMES.size)
    differing = [c.name for i, c in enumerate(store.spec.state_channels) if (state[..., i] != wanted[..., i]).any()]
    assert not differing
    assert store.data_hash == reference.data_hash
