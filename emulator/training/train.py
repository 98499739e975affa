"""Training: the loop.

    set up -> for every stage: batches -> step -> now and then validate, save -> weights for forecasting

A run that was stopped goes on from its last checkpoint and ends bit for bit where it would have ended (on accelerators
with ``train.deterministic``): the order of batches is a function of seed and step, and everything else is in the
checkpoint. The host runs a little ahead of the device: the scalars of a step are read when the device is already busy
with the next ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emulator.config import ModelConfig, TrainConfig
from emulator.hardware.garbage import search_again
from emulator.hardware.machine import describe
from emulator.models.layers import count_parameters
from emulator.progress import track
from emulator.training.background import told_once
from emulator.training.budget import Programs, check_memory
from emulator.training.checkpoints import Checkpoints
from emulator.training.devices import WHOLE, failing_together, meet
from emulator.training.job import StageSpan, look_ahead, open_for_training, set_up, work
from emulator.training.loader import Batch
from emulator.training.on_devices import OnDevices
from emulator.training.record import METRICS, Record
from emulator.training.run_identity import claim, latest_step, learned_statistics
from emulator.training.stop_requests import stop_requests
from emulator.training.train_step import TrainState
from emulator.training.watch import TooManySkippedError, Watch

logger = logging.getLogger(__name__)


class _StoppedError(KeyboardInterrupt):
    """A stop was asked for, and the state is to be saved before."""


def train(
    config: TrainConfig,
    model_config: ModelConfig,
    store_path: Path,
    run_dir: Path,
    seed: int,
    experiment: dict[str, Any],
    once_begun: Callable[[], None] = lambda: None,
) -> Path:
    """Trains a network, or goes on where an earlier call was stopped.

    With several processes (``devices.join_processes``) each calls this alike.

    Args:
      config: Stages, optimiser, intervals.
      model_config: Which network.
      store_path: A prepared store.
      run_dir: The run folder; see ``checkpoint``.
      seed: Of initial weights, of the order of the data, of noise.
      experiment: The resolved config, kept in the run folder for the reader.
      once_begun: What else there is to do at the start, and can wait for the first step.

    Returns:
      ``run_dir``, which ``checkpoint.load_forecaster`` reads.

    Raises:
      DataError: the store is unusable, the run folder belongs to another run, too many steps in a row had to be
        skipped, or another process was lost.
      ConfigError: the network does not fit the grid, the work does not fit the devices, or a weighted variable does
        not exist.
      KeyboardInterrupt: on SIGINT or SIGTERM, after the state was saved.
    """
    store = open_for_training(store_path)
    learned = learned_statistics(run_dir, config, model_config, store, seed)
    job = set_up(config, model_config, store, seed, learned, begun=latest_step(run_dir) is not None)
    layout, total = job.layout, job.spans[-1].stop
    if layout.writes:
        run_dir.mkdir(parents=True, exist_ok=True)
        described = replace(store, statistics=job.store.statistics, forcing_builder=job.store.forcing_builder)
        claim(run_dir, config, model_config, described, seed, experiment)

    with failing_together(), told_once(), closing(Checkpoints(run_dir, job.fresh.params.order)) as checkpoints:
        start = checkpoints.restore(job.fresh) or job.fresh
        if start.skipped >= config.max_skipped and start.step < total:  # given up, and to be tried as often again
            start = start._replace(skipped=jnp.int32(0))
        meet()  # the first has had more to do, and devices wait for each other for half a minute
        state = layout.place(layout.agree(start), WHOLE)
        done = int(state.step)
        if (skipped := int(state.skipped)) >= config.max_skipped:
            raise TooManySkippedError(
                f"train: the last {skipped} of {total} steps were skipped, for a loss or gradient that is not finite: "
                f"check the data of the times in {run_dir / METRICS}, or lower learning_rate and train anew"
            )
        programs = Programs(job.step, state, job.task, store, layout, config)
        logger.info(
            "train: %.2f million parameters, %d windows, %d steps%s",
            count_parameters(state.params) / 1e6,
            job.spans[0].windows.starts.size,
            total,
            f", going on from step {done}" if done else "",
        )

        def save(state: TrainState) -> None:
            checkpoints.save(int(state.step), state, state.averaged.params)
            meet()  # the first may have waited for its disk

        def leave_together() -> None:
            checkpoints.finish()
            meet()

        with (
            closing(Record(run_dir, done)) if layout.writes else nullcontext() as record,
            stop_requests() as stop_wanted,
            closing(OnDevices(job.store, layout)) as held,
            track(total, "train", done, work=partial(work, job.spans), shown=layout.writes) as progress,
        ):
            watch = Watch(config, job, record, progress)

            def is_to_validate(now: int) -> bool:
                return now % config.validate_every == 0 or now == total

            def stop_at_once() -> None:
                """Ends a validation, which is made up for; several processes settle on a step to stop after."""
                if jax.process_count() == 1 and stop_wanted(0):
                    raise _StoppedError

            if done and is_to_validate(done) and not layout.agree(np.bool_(record is not None and record.validated)):
                watch.validated(done, job.validation.run(state.averaged, job.task, stop_at_once))

            def ready() -> Generator[tuple[StageSpan, int, Batch, jax.stages.Compiled], None, None]:
                """The steps that are to be done, each with its stage, its batch and its program."""
                for span in job.spans:
                    steps = range(max(span.start, done), span.stop)
                    with closing(span.batches(steps, layout, held)) as batches:
                        for step in steps:
                            with watch.clock.waiting():
                                batch = next(batches)
                            shape = span.shape(step)
                            new = not programs.has(shape)
                            with watch.clock.paused(), progress.once():
                                program = programs.of(shape)  # compiled when a shape is new
                                if step == done:
                                    check_memory(programs.memory(shape), shape, config, layout)
                                if new:
                                    meet()
                            yield span, step, batch, program

            with closing(ready()) as steps:
                for span, step, batch, program in steps:
                    state, norms = program(state, batch, job.task)
                    now, first, stop = step + 1, step == done, stop_wanted(step)
                    validate = is_to_validate(now)
                    keep = stop or (now % config.checkpoint_every == 0 and now < total)
                    try:
                        watch.add(step, norms, span, catch_up=validate or keep or first)
                    except TooManySkippedError:
                        save(state)
                        leave_together()
                        raise
                    if first:
                        logger.info("train: first step done, loss %.4g", float(norms.loss))
                    if first and not stop:  # what can wait comes behind it: who waits sees a first loss sooner
                        with progress.once(), watch.clock.paused():
                            search_again()
                            once_begun()
                            needed = look_ahead(job, programs, job.heaviest(done), config)
                            held.begin_beside(needed.n_bytes)
                            meet()
                        what = f"rollouts need {needed.training}, validation {needed.validation}"
                        logger.info("train: %s; %s, %.3g TFLOP/s", what, describe(), watch.rate / 1e12)
                    with watch.clock.paused():
                        if keep:  # before all else: who stops a job may not wait
                            save(state)
                        try:
                            if stop:
                                raise _StoppedError
                            if validate:
                                watch.validated(now, job.validation.run(state.averaged, job.task, stop_at_once))
                        except _StoppedError:
                            if not keep:
                                save(state)
                            leave_together()
                            logger.info("train: stopped at step %d of %d, state saved", now, total)
                            raise
            save(state)  # not before: a run that is whole has its last validation, and its weights whatever was killed
        leave_together()
    return run_dir
