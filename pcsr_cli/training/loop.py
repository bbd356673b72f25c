"""The iterations of one stage: train, measure the pace, report, validate, save, and know when to end."""

import math
import time
from collections.abc import Callable

import torch

from pcsr_cli.errors import TrainingError
from pcsr_cli.training.batches import BatchMaker
from pcsr_cli.training.events import Progress
from pcsr_cli.training.run import Run
from pcsr_cli.training.schedule import learning_rate
from pcsr_cli.training.stages import Loss
from pcsr_cli.training.trainer import Trainer

SMOOTHING = 0.04
"""Weight of the newest interval in the measured pace: little, so that a pause does not upset the plan."""


def run_stage(
    run: Run, trainer: Trainer, maker: BatchMaker, stop: Callable[[], bool], deadline: float | None = None
) -> bool:
    """Iterate until the schedule is finished, True, or until told to stop, False; either way the state is saved.

    With a ``deadline`` (of ``time.monotonic``) the schedule is re-planned at every report, so as to end in time.
    Raises TrainingError, OutputError.
    """
    config, place, pace = run.config, trainer.schedule, _Pace(trainer)
    while not place.finished:
        started = time.perf_counter()
        loss = trainer.iterate(maker.make(place.step))
        pace.add(loss, time.perf_counter() - started)
        if place.step % config.report_every == 0:
            if deadline is not None:
                left = (deadline - time.monotonic()) * pace.rate
                place.replan(place.step + max(0, int(run.processes.agree(left))))
            run.tell(pace.report(run))
        if _told_to_stop(run, place.step, stop):
            run.save(trainer)
            return False
        if place.step % config.checkpoint_every == 0:
            run.save(trainer)
        if config.validation and place.step % config.validation.every == 0 and not place.finished:
            run.validate(trainer)
    run.save(trainer)
    run.validate(trainer)
    return True


def _told_to_stop(run: Run, step: int, stop: Callable[[], bool]) -> bool:
    """Whether the leader was told to stop; several processes ask it only now and then."""
    if run.processes.count > 1 and step % run.config.report_every:
        return False
    return bool(run.processes.agree(float(stop())))


class _Pace:
    """Mean loss since the last report, and iterations a second."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._seconds_each = 0.0
        self._reports = 0
        self._clear()

    def _clear(self) -> None:
        self._loss = self._share = torch.zeros((), device=self._trainer.model.device)
        self._count = 0
        self._elapsed = 0.0

    def add(self, loss: Loss, seconds: float) -> None:
        """One iteration more."""
        self._loss = self._loss + loss.total.detach()
        if loss.heavy_share is not None:
            self._share = self._share + loss.heavy_share
        self._count += 1
        self._elapsed += seconds

    @property
    def rate(self) -> float:
        """Iterations a second, smoothed over reports."""
        newest = self._elapsed / max(1, self._count)
        weight = max(SMOOTHING, 1 / (self._reports + 1))
        return 1 / max(1e-9, self._seconds_each + weight * (newest - self._seconds_each))

    def report(self, run: Run) -> Progress:
        """What happened since the last report; starts the next. Raises TrainingError."""
        trainer, place, rate = self._trainer, self._trainer.schedule, self.rate
        loss, share = (run.processes.mean(total) / self._count for total in (self._loss, self._share))
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss or the weights are no numbers any more at iteration {place.step}.",
                "Lower the stage's learning_rate; --resume goes on from the last good state, if one was saved.",
            )
        self._seconds_each = 1 / rate
        self._reports += 1
        self._clear()
        return Progress(
            stage=trainer.stage,
            step=place.step,
            last_step=place.last_step,
            loss=loss,
            learning_rate=learning_rate(trainer.config, place),
            rate=rate,
            crops=rate * trainer.config.batch,
            seconds=run.seconds,
            seconds_left=(place.last_step - place.step) / rate,
            heavy_share=share if trainer.stage == 2 else None,
        )
