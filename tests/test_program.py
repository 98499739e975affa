import argparse
from types import SimpleNamespace

import jax
import pytest

from data_prep.errors import ConfigError
from emulator.benchmarks import program
from emulator.benchmarks.program import Kernel, collectives, kernels

TINY = "{kind: unet, patch: 2, width: 8, multipliers: [1], blocks: 1}"

TEXT = """HloModule m

%update (param_0: f32[9,4], param_1: f32[4], param_2: s32[]) -> f32[9,4] {
  %param_0 = f32[9,4]{1,0} parameter(0)
  %param_1 = f32[4]{0} parameter(1)
  %row = f32[1,4]{1,0} bitcast(%param_1)
  %param_2 = s32[] parameter(2)
  ROOT %put = f32[9,4]{1,0} dynamic-update-slice(%param_0, %row, %param_2, %param_2)
}

%pick (param_0: f32[9,4], param_1: s32[]) -> bf16[1,4] {
  %param_0 = f32[9,4]{1,0} parameter(0)
  %param_1 = s32[] parameter(1)
  %some = f32[1,4]{1,0} dynamic-slice(%param_0, %param_1, %param_1), dynamic_slice_sizes={1,4}
  ROOT %half = bf16[1,4]{1,0} convert(%some)
}

%body (state: (f32[9,4], f32[4], s32[])) -> (f32[9,4], f32[4], s32[]) {
  %state = (f32[9,4]{1,0}, f32[4]{0}, s32[]) parameter(0)
  %all = f32[9,4]{1,0} get-tuple-element(%state), index=0
  %one = f32[4]{0} get-tuple-element(%state), index=1
  %i = s32[] get-tuple-element(%state), index=2
  %loop.1 = f32[9,4]{1,0} fusion(%all, %one, %i), kind=kLoop, calls=%update, metadata={op_name="jit(f)/jvp()/while/put"}
  %loop.2 = bf16[1,4]{1,0} fusion(%loop.1, %i), kind=kLoop, calls=%pick, metadata={op_name="jit(f)/transpose(jvp())/x"}
  ROOT %next = (f32[9,4]{1,0}, f32[4]{0}, s32[]) tuple(%loop.1, %one, %i)
}

ENTRY %main (x: bf16[2,3], w: bf16[3,5], z: (f32[9,4], f32[4], s32[])) -> bf16[2,5] {
  %x = bf16[2,3]{1,0} parameter(0)
  %w = bf16[3,5]{1,0} parameter(1)
  %z = (f32[9,4]{1,0}, f32[4]{0}, s32[]) parameter(2)
  %turns = (f32[9,4]{1,0}, f32[4]{0}, s32[]) while(%z), body=%body, backend_config={"known_trip_count":{"n":"7"}}
  %product = (bf16[2,5]{1,0}, s8[16]{0}) custom-call(%x, %w), custom_call_target="__cublas$lt$matmul"
  ROOT %result = bf16[2,5]{1,0} get-tuple-element(%product), index=0
}
"""


def test_kernels_are_counted_with_what_they_move():
    put, picked, product = kernels(TEXT)
    # a row read and written and an index; not the nine rows that it is one of
    assert put == Kernel("forward", is_product=False, n_bytes=16 + 16 + 4, times=7)
    assert picked == Kernel("backward", is_product=False, n_bytes=16 + 4 + 8, times=7)
    assert product == Kernel("optimiser", is_product=True, n_bytes=12 + 30 + 20 + 16, times=1)


def test_a_step_at_best_takes_launches_traffic_and_the_longer_of_products_and_arithmetic():
    """15 kernels run, one of them a product; arithmetic takes a millisecond, a quarter more where some is redone."""
    others = 7 * (16 + 16 + 4) + 7 * (16 + 4 + 8)
    for again in (1.0, 1.25):
        rows = {r.what.strip(): r for r in program._rows_of_h100(TEXT, 989e9, again, 8, "bfloat16")}
        assert rows["memory traffic of all else"].value == pytest.approx(others / 1e9)
        assert rows["memory traffic of products"].value == pytest.approx(78 / 1e9)
        seconds = 15 * 2.5e-6 + others / 3.35e12 + again * 1e-3
        assert rows["step at best"].value == pytest.approx(1e3 * seconds)
        assert (rows["windows at best"].value, rows["windows at best"].ceiling) == pytest.approx((8 / seconds, 8000))


def arguments(*words):
    parser = argparse.ArgumentParser()
    program.add_arguments(parser)
    return parser.parse_args(["--rows", "8", "--levels", "1", "--batch", "2", "--model", TINY, *words])


def test_a_table_says_what_the_program_is_made_of(monkeypatch):
    monkeypatch.setattr(program, "_devices", lambda card, n: jax.devices()[:n])  # a CPU's program in place of a GPU's
    chosen, choose = [], jax.lax.platform_dependent
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *a, **ways: chosen.append(1) or choose(*a, **ways))
    (table,) = program.run(arguments("--optimiser", "muon"))
    assert chosen  # the way of an accelerator was open to it, though none is here
    rows = {row.what.strip(): row for row in table.rows}
    assert rows["memory"].value > 0
    assert rows["kernels"].value == sum(rows[part].value for part in ("forward", "backward", "optimiser")) > 20
    at_best = rows["windows at best"]
    assert at_best.ceiling is not None
    assert 0 < at_best.value < at_best.ceiling
    assert rows["step at best"].value == pytest.approx(1e3 * 2 / at_best.value)


def test_what_is_computed_again_is_more_arithmetic(monkeypatch):
    asked = []
    monkeypatch.setattr(program, "_devices", lambda card, n: jax.devices()[:n])
    compiled = SimpleNamespace(of=lambda _: SimpleNamespace(as_text=lambda: TEXT), memory=lambda _: 0)
    monkeypatch.setattr(program, "Programs", lambda *_: compiled)
    monkeypatch.setattr(program, "_rows_of_h100", lambda *words: asked.append(words) or [])
    for words in ((), ("--rematerialise",)):
        program.run(arguments("--rollout", "4", *words))
    (_, plain, once, *_), (_, same, again, *_) = asked
    assert plain == same and (once, again) == (1.0, 1.25)  # four forward passes more but one, of twelve


@pytest.mark.parametrize(("card", "package"), [("h100", r"\"jax\[cuda12\]\""), ("v5e", "libtpu")])
def test_what_is_missing_is_named(monkeypatch, card, package):
    def nothing(*_, **__):
        raise RuntimeError("no such platform")

    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", nothing)
    with pytest.raises(ConfigError, match=f"--for {card}: pip install {package} brings what compiles for it"):
        program.run(arguments("--for", card))


def test_communication_is_counted_where_there_is_some():
    text = """HloModule m

%body (x: f32[4]) -> f32[4] {
  ROOT %gather = f32[8,2]{1,0} all-gather(%x), dimensions={0}
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %sum = (f32[], f32[3,2]{1,0}) all-reduce(%a, %b), to_apply=%add
}
"""
    assert collectives(text) == {
        "kinds": {"all-gather": 1, "all-reduce": 1},
        "reduced_bytes": 28,
        "in_loops": ["all-gather"],
    }
