"""Arithmetic in other words for a CPU."""

import jax
import jax.numpy as jnp
import pytest

from emulator.hardware.platforms import by_platform, compiled_for_others


@pytest.mark.parametrize(("backend", "traced"), [("cpu", ["cpu"]), ("gpu", ["cpu", "default"])])
def test_a_cpu_takes_its_own_way_and_the_other_is_traced_where_there_is_an_accelerator(monkeypatch, backend, traced):
    seen = set()

    def way(name, x):
        seen.add(name)
        return x + {"cpu": 1, "default": 2}[name]

    monkeypatch.setattr("emulator.hardware.platforms.jax.default_backend", lambda: backend)
    made = jax.jit(lambda x: by_platform(x, cpu=lambda x: way("cpu", x), default=lambda x: way("default", x)))
    with jax.default_device(jax.devices("cpu")[0]):
        assert made(jnp.float32(0)) == 1
    assert sorted(seen) == traced


def test_an_accelerators_way_is_traced_where_it_is_compiled_for_one_that_is_not_here():
    def lowered(name):
        made = jax.jit(lambda x: by_platform(x, cpu=jnp.sin, default=jnp.cos))
        return made.trace(jnp.float32(0)).lower(lowering_platforms=(name,)).as_text()

    with compiled_for_others():
        assert "cosine" in lowered("cuda") and "sine" not in lowered("cuda").replace("cosine", "")
        assert "cosine" not in lowered("cpu")
    assert "cosine" not in lowered("cuda")
