"""The iterations of one stage: train, measure the pace, report, validate, save, and know when to end."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pcsr_cli.failures import training
from pcsr_cli.training.batches import BatchMaker
from pcsr_cli.training.config import TrainConfig
from pcsr_cli.training.events import Observer, Progress
from pcsr_cli.training.processes import Processes
from pcsr_cli.training.schedule import learning_rate
from pcsr_cli.training.stages import Loss
from pcsr_cli.training.trainer import Trainer

SMOOTHING = 0.04
"""Weight of the newest interval in the measured pace: little, so that a pause does not upset the plan."""


@dataclass(frozen=True)
class Surroundings:
    """What a stage asks of, and tells, the run it is part of. ``seconds`` is the run's age."""

    processes: Processes
    tell: Observer
    stop: Callable[[], bool]
    save: Callable[[], None]
    validate: Callable[[], None]
    seconds: Callable[[], float]


def run_stage(
    trainer: Trainer, maker: BatchMaker, config: TrainConfig, around: Surroundings, deadline: float | None
) -> bool:
    """Iterate until the schedule is finished, True, or until told to stop, False; either way the state is saved.

    With a ``deadline`` (of ``time.monotonic``) the schedule is re-planned at every report, so as to end in time.
    Raises TrainingError, OutputError.
    """
    pace = _Pace(trainer.model.device)
    place = trainer.schedule
    while not place.finished:
        started = time.perf_counter()
        loss = trainer.iterate(maker.make(place.step))
        pace.add(loss, time.perf_counter() - started)
        if place.step % config.report_every == 0:
            if deadline is not None:
                left = (deadline - time.monotonic()) * pace.rate
                place.replan(place.step + max(0, int(around.processes.agree(left))))
            around.tell(pace.report(trainer, around))
        if _told_to_stop(around, place.step, config.report_every):
            around.save()
            return False
        if config.validation and place.step % config.validation.every == 0 and not place.finished:
            around.validate()
        if place.step % config.checkpoint_every == 0:
            around.save()
    around.save()
    around.validate()
    return True


def _told_to_stop(around: Surroundings, step: int, report_every: int) -> bool:
    """Whether the leader was told to stop; several processes ask it only now and then."""
    if around.processes.count > 1 and step % report_every:
        return False
    return bool(around.processes.agree(float(around.stop())))


class _Pace:
    """Mean loss since the last report, and iterations a second."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds_each = 0.0
        self._reports = 0
        self._clear()

    def _clear(self) -> None:
        self._loss = torch.zeros((), device=self._device)
        self._share: Tensor | None = None
        self._count = 0
        self._elapsed = 0.0

    def add(self, loss: Loss, seconds: float) -> None:
        """One iteration more."""
        self._loss += loss.total.detach()
        if loss.heavy_share is not None:
            self._share = loss.heavy_share if self._share is None else self._share + loss.heavy_share
        self._count += 1
        self._elapsed += seconds

    @property
    def rate(self) -> float:
        """Iterations a second, smoothed over reports."""
        newest = self._elapsed / max(1, self._count)
        weight = max(SMOOTHING, 1 / (self._reports + 1))
        return 1 / max(1e-9, self._seconds_each + weight * (newest - self._seconds_each))

    def report(self, trainer: Trainer, around: Surroundings) -> Progress:
        """What happened since the last report; starts the next. Raises TrainingError."""
        place, rate = trainer.schedule, self.rate
        loss = around.processes.mean(self._loss) / self._count
        if not math.isfinite(loss):
            raise training.DIVERGED(step=place.step)
        share = None if self._share is None else around.processes.mean(self._share) / self._count
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
            seconds=around.seconds(),
            seconds_left=(place.last_step - place.step) / rate,
            heavy_share=share,
        )
