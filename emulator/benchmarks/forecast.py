"""Forecasting: simulated days a second of a network, and of SPEEDY at its best number of members in the same run."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

import jax
import numpy as np

from data_prep.grid import Grid
from emulator.benchmarks.synthetic import TIMESTEP, synthetic_spec, synthetic_store, vertical_for
from emulator.benchmarks.table import Row, Table
from emulator.benchmarks.train import add_model, take_model
from emulator.config import ModelConfig
from emulator.hardware.machine import best_seconds, cores, describe, factors_of, matrix_rate
from emulator.models import forward_flops
from emulator.stepping.longer_steps import with_longer_steps
from emulator.stepping.rollout import rollout
from emulator.stepping.stepper import make_stepper, network_channels
from emulator.training.loader import read_batch

_DAYS_PER_STEP = float(TIMESTEP / np.timedelta64(1, "D"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be chosen."""
    add_model(parser)
    parser.add_argument("--levels", type=int, default=8, help="levels of the four upper-air variables (8)")
    parser.add_argument("--days", type=float, default=10.0, help="length of a forecast (10)")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 8], help="initial conditions at once (1 8)")
    parser.add_argument("--physics", type=int, nargs="*", default=[31], help="truncations of SPEEDY (31)")
    parser.add_argument(
        "--physics-members",
        type=int,
        nargs="+",
        help="of each of them (1, and one and two for each core; else 1 32 128)",
    )
    parser.add_argument("--physics-days", type=int, default=1, help="days of a timed SPEEDY run (1)")


def run(arguments: argparse.Namespace) -> list[Table]:
    """The table."""
    model = take_model(arguments)
    network = {members: _network_days(model, arguments, members) for members in arguments.members}
    flops, rate = _flops_per_day(model, arguments), matrix_rate(arguments.precision, jax.local_devices()[:1])
    steps = round(arguments.days / _DAYS_PER_STEP)
    rows = [
        Row(
            f"network, {members} at once, {steps} steps",
            days,
            "days/s",
            rate / flops,
            f"{factors_of(arguments.precision)} matrix products",
        )
        for members, days in network.items()
    ]
    rows.append(
        Row("network, latency of the smallest batch", min(network) * arguments.days / network[min(network)], "s")
    )
    best = max(network.values())
    for truncation in arguments.physics if find_spec("jcm") else []:
        chosen = arguments.physics_members or _members_of_physics()
        physics = {m: _physics_days(truncation, m, arguments.physics_days) for m in chosen}
        rows += [Row(f"SPEEDY T{truncation}, {members} members", days, "days/s") for members, days in physics.items()]
        rows.append(
            Row(f"network at its best over SPEEDY T{truncation} at its best", best / max(physics.values()), "times")
        )
    return [Table("Forecasting", describe(), rows)]


def _network_days(model: ModelConfig, arguments: argparse.Namespace, members: int) -> float:
    """Simulated days a second of so many forecasts together."""
    steps = round(arguments.days / _DAYS_PER_STEP)
    n_times = max(members, 8) + 2 + model.time_steps[-1]
    made_up = synthetic_store(arguments.rows, arguments.levels, n_times, vertical_for(model))
    store = with_longer_steps(made_up, model.time_steps[1:])
    stepper, params = make_stepper(
        model,
        store.spec,
        store.grid,
        store.timestep,
        store.statistics,
        store.static,
        precision=arguments.precision,
        seed=0,
    )
    first = read_batch(store, np.arange(members), 1)
    state = jax.device_put(np.asarray(first.state[:, 0]))
    forcing = jax.device_put(np.repeat(np.asarray(first.forcing), steps, axis=1))
    # the last state alone: what is written to files is a matter of the disk
    last = jax.jit(lambda params, state, forcing, which: rollout(stepper, params, state, forcing, which)[:, -1])
    return members * arguments.days / best_seconds(lambda: last(params, state, forcing, first.which), seconds=2.0)


def _flops_per_day(model: ModelConfig, arguments: argparse.Namespace) -> float:
    channels = network_channels(model, synthetic_spec(arguments.levels, vertical_for(model)))
    return forward_flops(model, *channels, Grid.gaussian(arguments.rows)) / _DAYS_PER_STEP


def _physics_days(truncation: int, members: int, days: int) -> float:
    """Simulated days a second of so many SPEEDY runs together; of fields it hands out one a day, on the T21 grid."""
    from emulator.physics.ensemble import Ensemble
    from emulator.physics.speedy import SpeedyModel, replicate

    model = SpeedyModel(truncation)
    states = replicate(model.at_rest(np.datetime64("1901-01-01")), members)
    ensemble = Ensemble(model, states, intervals=days, interval_hours=24, output_truncation=21)
    states, _ = ensemble.advance(states)  # the first steps from rest are no others than later ones, but compile
    return members * days / best_seconds(lambda: ensemble.advance(states), seconds=2.0)


def _members_of_physics() -> list[int]:
    """Among which SPEEDY's best number of members is looked for."""
    if jax.default_backend() != "cpu":
        return [1, 32, 128]
    return sorted({1, cores(), 2 * cores()})
