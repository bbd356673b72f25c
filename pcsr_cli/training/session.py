"""A training run: both stages of a recipe, from random weights or a saved state to a model folder.

Several processes, started by torchrun, can train together. The first process, the leader, reports, validates and saves.
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
from pcsr_cli.engine.memory import free_memory
from pcsr_cli.errors import TrainingError
from pcsr_cli.images.files import make_folder, remove_leftovers
from pcsr_cli.model.checkpoint import build_model, read_checkpoint, save_folder
from pcsr_cli.model.network import Pcsr
from pcsr_cli.training.batches import BatchMaker, batches, largest_window
from pcsr_cli.training.config import LOG_NAME, STATE_NAME, TrainConfig
from pcsr_cli.training.log import Event, Log, Observer, Progress, Saved, ignore, write_card
from pcsr_cli.training.patches import Pixels, open_patches
from pcsr_cli.training.stages import Loss
from pcsr_cli.training.trainer import RunState, Trainer, diverged, learning_rate, load_state, save_state
from pcsr_cli.training.validation import Validator

STAGE_1_NAME = "stage1.pt"
MODEL_NAME = "model"

WEIGHT_BYTES = 4 * 5
"""Bytes of a weight, its gradient, its two moments and its average."""

WINDOW_PIXEL_BYTES = 3 * (1 + 4)
"""Bytes of a pixel of a training window, in 8 bits and in float32."""


def is_leader() -> bool:
    """Whether this process is the leader, according to the environment that torchrun sets."""
    return int(os.environ.get("RANK", "0")) == 0


@dataclass(frozen=True)
class Processes:
    """This process's ``rank`` among ``count`` processes, and its device."""

    rank: int
    count: int
    device: torch.device

    def mean(self, value: Tensor) -> float:
        """The mean of a number over the processes. Every process gets the mean."""
        if self.count > 1:
            value = value.to(self.device, copy=True)
            distributed.all_reduce(value)
        return float(value) / self.count

    def wait(self) -> None:
        """Wait until every process has called this method."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def join_processes(device: str = "auto") -> Iterator[Processes]:
    """Join the processes that torchrun started, or run as one process without torchrun. Raises DeviceError.

    With ``auto`` and ``cuda``, each process uses one GPU. On CPUs, the processes communicate over gloo."""
    count, own = int(os.environ.get("WORLD_SIZE", "1")), resolve_device(device)
    if count == 1:
        yield Processes(0, 1, own)
        return
    if own.type == "cuda":
        own = resolve_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(own)
    rank = int(os.environ["RANK"])
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
        """Make the folder and remove temporary files of killed runs. Raises OutputError and the errors of
        ``Validator``."""
        make_folder(folder)
        self.config = config
        self.folder = folder
        self.processes = processes
        self._observe = observe
        self._log = Log(folder / LOG_NAME)
        self._started = time.monotonic() - seconds
        self._validator = None
        if is_leader():
            for path in (folder, folder / MODEL_NAME):
                remove_leftovers(path)
            if config.validation is not None:
                self._validator = Validator(config, processes.device, self.report)

    @property
    def seconds(self) -> float:
        """The training time of this run, including earlier sessions."""
        return time.monotonic() - self._started

    def report(self, event: Event) -> None:
        """Log an event and pass it to the observer. Raises OutputError."""
        if is_leader():
            self._log(event)
            self._observe(event)

    def validate(self, trainer: Trainer) -> None:
        """Measure the averaged weights, if the recipe names validation images."""
        if self._validator is not None:
            for event in self._validator.measure(trainer.averaged, trainer.stage, trainer.schedule.step, self.seconds):
                self.report(event)
        self.processes.wait()

    def save(self, trainer: Trainer, name: str = STATE_NAME) -> None:
        """Save the state to resume from. Raises OutputError, and TrainingError if training diverged."""
        state = trainer.state(self.seconds)  # in every process, so that all processes end if it fails
        if is_leader():
            path = self.folder / name
            save_state(state, path)
            self.report(Saved(path, state.stage, state.step))


def measure_progress(run: Run, trainer: Trainer, losses: list[Loss], seconds: float) -> Progress:
    """The progress of iterations with the given losses, which took ``seconds``.

    Raises TrainingError if the loss is not finite."""
    schedule, rate = trainer.schedule, len(losses) / max(1e-9, seconds)
    loss = run.processes.mean(torch.stack([each.total for each in losses]).mean())
    if not math.isfinite(loss):
        raise diverged(schedule.step)
    shares = [each.heavy_share for each in losses if each.heavy_share is not None]
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
        heavy_share=run.processes.mean(torch.stack(shares).mean()) if shares else None,
    )


def run_stage(run: Run, trainer: Trainer, maker: BatchMaker, stop: Callable[[], bool]) -> bool:
    """Train until the schedule ends or ``stop`` returns True, then save the state. Returns whether the schedule ended.

    Raises TrainingError, OutputError."""
    config, schedule, processes = run.config, trainer.schedule, run.processes
    losses, started = [], time.monotonic()
    for batch in batches(maker, range(schedule.step, schedule.last_step), processes.device):
        losses.append(trainer.iterate(batch))
        must_report = schedule.step % config.report_every == 0
        if must_report:
            run.report(measure_progress(run, trainer, losses, time.monotonic() - started))
            losses, started = [], time.monotonic()
        # Several processes check for a stop only once per report, because the check needs communication.
        if (must_report or processes.count == 1) and processes.mean(torch.tensor(float(stop()))) > 0:
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

    ``resume`` is a saved state to continue from. ``stop`` is called after each iteration. Once ``stop`` returns True,
    the state is saved and the result is None. Raises TrainingError, InputError, OutputError, DeviceError."""
    state = load_state(resume, config.model.spec) if resume else None
    with join_processes(device) as processes:
        check_batches(config, processes.count)
        check_memory(config, processes)
        run = Run(config, folder, observe, processes, seconds=state.seconds if state else 0.0)
        smallest = max(largest_window(stage.crop, config.scales) for stage in config.stages)
        if is_leader():
            open_patches(config, smallest, run.report)  # makes them if they are missing
        processes.wait()
        return _run_stages(run, open_patches(config, smallest, run.report), state, stop)


def check_batches(config: TrainConfig, processes: int) -> None:
    """Raise TrainingError if the processes cannot share the batches evenly."""
    for number, stage in enumerate(config.stages, start=1):
        if stage.batch % processes:
            raise TrainingError(
                f"{processes} processes cannot share stage{number}.batch = {stage.batch} evenly.",
                f"Set batch to a multiple of {processes}.",
            )


def check_memory(config: TrainConfig, processes: Processes) -> None:
    """Raise TrainingError if the network and a batch surely need more than the free memory of the device."""
    with torch.device("meta"):
        network = WEIGHT_BYTES * Pcsr(config.model.spec).parameter_count()
    free = free_memory(processes.device)
    for number, stage in enumerate(config.stages, start=1):
        pixels = stage.batch // processes.count * largest_window(stage.crop, config.scales) ** 2
        batch = WINDOW_PIXEL_BYTES * pixels
        if network + batch > free:
            raise TrainingError(
                f"The network ({network / 2**30:,.1f} GiB) and a batch of stage{number} ({batch / 2**30:,.1f} GiB) "
                f"need more than the free memory ({free / 2**30:,.1f} GiB).",
                f"Make the network, stage{number}.batch or stage{number}.crop smaller.",
            )


def _initial_model(config: TrainConfig) -> Pcsr:
    """The network with random weights, or with the weights in ``model.start``. Raises ModelError, TrainingError."""
    spec = config.model.spec
    if config.model.start is None:
        return Pcsr(spec)
    folder = config.locate(config.model.start)
    model = build_model(read_checkpoint(folder))
    if model.spec != spec:
        raise TrainingError(f"{folder} has another architecture than [model] in the recipe.", "Correct model.start.")
    return model.requires_grad_(True)


def _run_stages(run: Run, patches: Pixels, state: RunState | None, stop: Callable[[], bool]) -> Path | None:
    """Run both stages, or the rest of them after ``state``; return the model folder, or None if stopped."""
    config, processes = run.config, run.processes
    torch.manual_seed(config.seed)
    pixels = torch.from_numpy(patches)
    if config.degradation is None:  # otherwise codecs on the CPU make the batches
        pixels = pixels.to(processes.device)
    model = _initial_model(config).to(processes.device)
    for number, stage in enumerate(config.stages, start=1):
        if state is not None and state.stage > number:
            continue
        trainer = Trainer(model, number, stage, processes.count > 1, config.model.branches)
        if state is not None and state.stage == number:
            trainer.restore(state)
        seed = (config.seed, number)
        maker = BatchMaker(pixels, stage, config.scales, seed, config.degradation, processes.rank, processes.count)
        if not run_stage(run, trainer, maker, stop):
            return None
        if number == 1:
            run.save(trainer, STAGE_1_NAME)
        model = Pcsr(config.model.spec).to(processes.device)
        model.load_state_dict(trainer.averaged)
    target = run.folder / MODEL_NAME
    if is_leader():
        save_folder(model, config.trained_scales, target)
        write_card(config, model, target, run.folder / LOG_NAME, run.seconds)
        run.report(Saved(target, 2, trainer.schedule.step))
    processes.wait()
    return target
