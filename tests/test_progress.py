"""What is told of the time left."""

import logging

import numpy as np
import pytest

from emulator.progress import track


def test_time_left_knows_that_long_rollouts_take_longer(caplog, monkeypatch):
    clock = iter([0.0, 20.0, 40.0, 60.0, 80.0])
    monkeypatch.setattr("emulator.progress.time.monotonic", lambda: next(clock))
    costs = [0.0, 1.0, 2.0, 12.0, 22.0]
    with caplog.at_level(logging.INFO, "emulator.progress"), track(4, "train", work=lambda n: costs[n]) as progress:
        for _ in range(3):
            progress.advance()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:3] == [
        "train: 1/4, 7 min 00 s left",  # 20 s for one of 22
        "train: 2/4, 6 min 40 s left",
        "train: 3/4, 50 s left",
    ]


def test_compiling_is_no_sign_of_the_time_left(caplog, monkeypatch):
    clock = iter([0.0, 0.0, 100.0, 120.0, 130.0])
    monkeypatch.setattr("emulator.progress.time.monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, "emulator.progress"), track(4, "train") as progress:
        with progress.once():
            pass
        progress.advance()
    assert [r.getMessage() for r in caplog.records] == ["train: 1/4, 60 s left", "train: 1/4, took 2 min 10 s"]


@pytest.mark.parametrize(
    ("seconds", "total", "told"),
    [
        pytest.param(
            [*[10.0] * 10, 3000.0, *[10.0] * 61],
            200,
            {9: "10/200, 31 min 40 s left", 71: "72/200, 21 min 20 s left"},
            id="a hold-up is forgotten after ten minutes",
        ),
        pytest.param(
            [*[3.0] * 20, *[12.0] * 7],
            40,
            {4: "20/40, 60 s left", 11: "27/40, 2 min 36 s left"},
            id="heavier work is noticed in a minute",
        ),
    ],
)
def test_time_left_goes_by_what_was_last(caplog, monkeypatch, seconds, total, told):
    clock = iter(np.cumsum([0.0, *seconds, 10.0]))
    monkeypatch.setattr("emulator.progress.time.monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, "emulator.progress"), track(total, "train") as progress:
        for _ in seconds:
            progress.advance()
    lines = [record.getMessage() for record in caplog.records]
    assert {number: lines[number] for number in told} == {number: f"train: {line}" for number, line in told.items()}


def test_progress_writes_plain_lines_where_there_is_no_terminal(caplog, monkeypatch):
    monkeypatch.setattr("emulator.progress.LINE_INTERVAL", 0.0)
    with caplog.at_level(logging.INFO, "emulator.progress"), track(4, "train", done=1) as progress:
        for i in range(3):
            progress.advance(1, loss=0.5 + i)
    messages = [r.getMessage() for r in caplog.records]
    assert messages[0] == "train: 2/4, 0 s left, loss 0.5"
    assert messages[-1] == "train: 4/4, took 0 s, loss 2.5"
    assert all(m.isprintable() for m in messages)
