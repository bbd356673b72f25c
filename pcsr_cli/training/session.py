"""A training run: both stages of a recipe, from random weights or a saved state to a model folder.

Several processes, started by torchrun, can train together. The first of them, the leader, reports, validates and saves.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed

from pcsr_cli.engine.device import resolve_device
from pcsr_cli.errors import OutputError, TrainingError
from pcsr_cli.images.files import reason, remove_leftovers
from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.network import Pcsr
from pcsr_cli.training.batches import BatchMaker, largest_window
from pcsr_cli.training.config import TrainConfig
from pcsr_cli.training.log import Event, Log, Observer, Progress, Saved, Validated, ignore, write_card
from pcsr_cli.training.patches import Pixels, open_patches
from pcsr_cli.training.stages import Loss
from pcsr_cli.training.trainer import RunState, Trainer, diverged, learning_rate, load_state, save_state
from pcsr_cli.training.validation import Validator

STATE_NAME = "state.pt"
STAGE_1_NAME = "stage1.pt"
LOG_NAME = "log.jsonl"
MODEL_NAME = "model"


def is_leader() -> bool:
    """Whether this process is the leader, according to the environment that torchrun sets."""
    return int(os.environ.get("RANK", "0")) == 0


@dataclass(frozen=True)
class Processes:
    """This process's ``rank`` among ``count`` processes, and its device."""

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process is the leader."""
        return self.rank == 0

    def from_leader(self, value: bool) -> bool:
        """The leader's ``value``, in every process."""
        if self.count == 1:
            return value
        shared = torch.tensor([float(value)], device=self.device)
        distributed.broadcast(shared, src=0)
        return bool(shared)

    def mean(self, value: Tensor) -> float:
        """The mean of a number over the processes, in every process."""
        if self.count > 1:
            value = value.clone()
            distributed.all_reduce(value)
        return float(value) / self.count

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def join_processes(device: str = "auto") -> Iterator[Processes]:
    """Join the processes that torchrun started; without torchrun there is one. Raises DeviceError.

    Each process takes one GPU for ``auto`` and ``cuda``; on CPUs the processes communicate over gloo.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    found = resolve_device(device)
    if count == 1:
        yield Processes(0, 1, found)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    own = resolve_device(f"cuda:{local}") if found.type == "cuda" else found
    if own.type == "cuda":
        torch.cuda.set_device(own)
    distributed.init_process_group("nccl" if own.type == "cuda" else "gloo", rank=rank, world_size=count)
    try:
        yield Processes(rank, count, own)
    finally:
        distributed.destroy_process_group()


class Run:
    """A run of a recipe in a folder. ``seconds`` is the training time of earlier sessions."""

    def __init__(
        self, config: TrainConfig, folder: Path, observe: Observer, processes: Processes, seconds: float = 0.0
    ) -> None:
        """Make the folder and remove temporary files of killed runs. Raises OutputError, and as ``Validator``."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot make the folder {folder}: {reason(error)}.", "Choose another folder.") from error
        self.config = config
        self.folder = folder
        self.processes = processes
        self._observe = observe
        self._log = Log(folder / LOG_NAME)
        self._started = time.monotonic() - seconds
        self._validator = None
        if processes.leads:
            for place in (folder, folder / MODEL_NAME):
                remove_leftovers(place)
            if config.validation is not None:
                self._validator = Validator(config, processes.device, self.report)

    @property
    def seconds(self) -> float:
        """The age of the run, earlier sessions included."""
        return time.monotonic() - self._started

    def report(self, event: Event) -> None:
        """Log an event and pass it to the observer. Raises OutputError."""
        if self.processes.leads:
            self._log(event)
            self._observe(event)

    def validate(self, trainer: Trainer) -> None:
        """Measure the averaged weights, if the recipe names validation images."""
        if self._validator is not None:
            step, stage = trainer.schedule.step, trainer.stage
            for quality in self._validator.measure(trainer.averaged, stage):
                self.report(Validated(**vars(quality), stage=stage, step=step, seconds=self.seconds))
        self.processes.wait()

    def save(self, trainer: Trainer, name: str = STATE_NAME) -> None:
        """Save the state to resume from. Raises OutputError, and TrainingError if training diverged."""
        state = trainer.state(self.seconds)  # in every process, so that all of them end if it fails
        if self.processes.leads:
            path = self.folder / name
            save_state(state, path)
            self.report(Saved(path, state.stage, state.step))

    def finish(self, model: Pcsr, steps: int) -> Path:
        """Write the model folder after ``steps`` iterations of the second stage: config, weights and card."""
        target = self.folder / MODEL_NAME
        if self.processes.leads:
            save_folder(model, self.config.trained_scales, target)
            write_card(self.config, model, target, self.folder / LOG_NAME, self.seconds)
            self.report(Saved(target, 2, steps))
        self.processes.wait()
        return target


class Meter:
    """Measures the mean loss and the speed since the last report."""

    def __init__(self, device: torch.device) -> None:
        self._loss = self._share = torch.zeros((), device=device)
        self._count = 0
        self._elapsed = 0.0

    def add(self, loss: Loss, seconds: float) -> None:
        """Add an iteration."""
        self._loss = self._loss + loss.total.detach()
        if loss.heavy_share is not None:
            self._share = self._share + loss.heavy_share
        self._count += 1
        self._elapsed += seconds

    def report(self, run: Run, trainer: Trainer) -> Progress:
        """The progress to report. Raises TrainingError if the loss is not finite."""
        schedule, rate = trainer.schedule, self._count / max(1e-9, self._elapsed)
        loss, share = (run.processes.mean(total) / self._count for total in (self._loss, self._share))
        if not math.isfinite(loss):
            raise diverged(schedule.step)
        return Progress(
            stage=trainer.stage,
            step=schedule.step,
            last_step=schedule.last_step,
            loss=loss,
            learning_rate=learning_rate(trainer.config, schedule),
            rate=rate,
            crops=rate * trainer.config.batch,
            seconds=run.seconds,
            seconds_left=(schedule.last_step - schedule.step) / rate,
            heavy_share=share if trainer.stage == 2 else None,
        )


def run_stage(run: Run, trainer: Trainer, maker: BatchMaker, stop: Callable[[], bool]) -> bool:
    """Train until the schedule ends (returns True) or ``stop`` returns True (returns False), then save the state.

    Raises TrainingError, OutputError.
    """
    config, schedule, meter = run.config, trainer.schedule, Meter(trainer.model.device)
    while not schedule.finished:
        started = time.perf_counter()
        loss = trainer.iterate(maker.make(schedule.step))
        meter.add(loss, time.perf_counter() - started)
        if schedule.step % config.report_every == 0:
            run.report(meter.report(run, trainer))
            meter = Meter(trainer.model.device)
        # Several processes agree on stopping only once per report, because that takes a broadcast.
        may_stop = run.processes.count == 1 or schedule.step % config.report_every == 0
        if may_stop and run.processes.from_leader(stop()):
            run.save(trainer)
            return False
        if schedule.step % config.checkpoint_every == 0:
            run.save(trainer)
        if config.validation and schedule.step % config.validation.every == 0 and not schedule.finished:
            run.validate(trainer)
    run.save(trainer)
    run.validate(trainer)
    return True


def train(
    config: TrainConfig,
    folder: Path,
    observe: Observer = ignore,
    *,
    resume: Path | None = None,
    device: str = "auto",
    stop: Callable[[], bool] = lambda: False,
) -> Path | None:
    """Train the network of a recipe, with all files of the run in ``folder``; return the folder of the finished model.

    ``resume`` is a saved state to continue from. ``stop`` is called after each iteration; once it returns True, the
    state is saved and the result is None. Raises TrainingError, InputError, OutputError, DeviceError.
    """
    state = load_state(resume, config.model.spec) if resume else None
    with join_processes(device) as processes:
        check_batches(config, processes.count)
        run = Run(config, folder, observe, processes, seconds=state.seconds if state else 0.0)
        return _run_stages(run, _open_patches(run), state, stop)


def check_batches(config: TrainConfig, processes: int) -> None:
    """Raise TrainingError if the processes cannot share the batches evenly."""
    for number, stage in enumerate(config.stages, start=1):
        if stage.batch % processes:
            raise TrainingError(
                f"{processes} processes cannot share stage{number}.batch = {stage.batch} evenly.",
                f"Set it to a multiple of {processes}.",
            )


def _open_patches(run: Run) -> Pixels:
    """Open the patches; the leader makes them first where they are missing."""
    smallest = max(largest_window(stage.crop, run.config.scales) for stage in run.config.stages)
    if not run.processes.leads:
        run.processes.wait()
    patches = open_patches(run.config, smallest, run.report)
    if run.processes.leads:
        run.processes.wait()
    return patches


def _run_stages(run: Run, patches: Pixels, state: RunState | None, stop: Callable[[], bool]) -> Path | None:
    """Run both stages, or the rest of them after ``state``; return the model folder, or None if stopped."""
    config, processes = run.config, run.processes
    torch.manual_seed(config.seed)
    model = Pcsr(config.model.spec).to(processes.device)
    for number, stage in enumerate(config.stages, start=1):
        if state is not None and state.stage > number:
            continue
        trainer = Trainer(model, number, stage, distributed=processes.count > 1)
        if state is not None and state.stage == number:
            trainer.restore(state)
        seed, rank, count = (config.seed, number), processes.rank, processes.count
        maker = BatchMaker(patches, stage, config.scales, seed, processes.device, rank, count)
        if not run_stage(run, trainer, maker, stop):
            return None
        if number == 1:
            run.save(trainer, STAGE_1_NAME)
        model.load_state_dict(trainer.averaged)
    return run.finish(model, trainer.schedule.step)
