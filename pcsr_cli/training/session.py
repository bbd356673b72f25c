"""A training session: from a recipe, or a state on the way, through both stages to a model's folder."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pcsr_cli.errors import OutputError, TrainingError
from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.network import Pcsr
from pcsr_cli.training.batches import BatchMaker, Share, largest_window
from pcsr_cli.training.config import TrainConfig
from pcsr_cli.training.events import Event, Observer, Progress, Saved, Validated, ignore
from pcsr_cli.training.patches import Pixels, open_patches
from pcsr_cli.training.processes import Processes, join_processes
from pcsr_cli.training.report import Log, write_card
from pcsr_cli.training.stages import Loss
from pcsr_cli.training.state import RunState, load_state, save_state
from pcsr_cli.training.trainer import Trainer, learning_rate
from pcsr_cli.training.validation import Validator

STATE_NAME = "state.pt"
STAGE_1_NAME = "stage1.pt"
LOG_NAME = "log.jsonl"
MODEL_NAME = "model"


class Run:
    """A run of a recipe in a folder, which is made; ``seconds`` of training lie behind it."""

    def __init__(
        self, config: TrainConfig, folder: Path, observe: Observer, processes: Processes, seconds: float = 0.0
    ) -> None:
        """Raises OutputError for the folder, and as ``Validator`` for the pictures to validate on."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The folder {folder} cannot be made: {error.strerror}.", "Choose another.") from error
        self.config = config
        self.folder = folder
        self.processes = processes
        self._observe = observe
        self._log = Log(folder / LOG_NAME)
        self._started = time.monotonic() - seconds
        self._validator = None
        if config.validation is not None and processes.leads:
            self._validator = Validator(config, processes.device, self.tell)

    @property
    def seconds(self) -> float:
        """The run's age, earlier sessions included."""
        return time.monotonic() - self._started

    def tell(self, event: Event) -> None:
        """Log an event and hand it to the observer. Raises OutputError."""
        if self.processes.leads:
            self._log(event)
            self._observe(event)

    def validate(self, trainer: Trainer) -> None:
        """Measure the averaged weights, if the recipe names pictures for that."""
        if self._validator is not None:
            place = {"stage": trainer.stage, "step": trainer.schedule.step}
            for quality in self._validator.measure(trainer.averaged, trainer.stage):
                self.tell(Validated(**vars(quality), **place, seconds=self.seconds))
        self.processes.wait()

    def save(self, trainer: Trainer, name: str = STATE_NAME) -> None:
        """Save the state to go on from. Raises OutputError, and TrainingError for one that has diverged."""
        state = trainer.state(self.seconds)  # in every process: where it fails, all of them end
        if self.processes.leads:
            path = self.folder / name
            save_state(state, path)
            self.tell(Saved(path, state.stage, state.step))

    def finish(self, model: Pcsr, steps: int) -> Path:
        """Write the model's folder, after ``steps`` iterations of the second stage: config, weights and card."""
        target = self.folder / MODEL_NAME
        if self.processes.leads:
            save_folder(model, self.config.trained_scales, target)
            write_card(self.config, model, target, self.folder / LOG_NAME, self.seconds)
            self.tell(Saved(target, 2, steps))
        self.processes.wait()
        return target


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


@dataclass(frozen=True)
class RunOptions:
    """How to run a recipe.

    ``resume`` is a state to go on from. ``rewind`` puts the learning rate's schedule back to that progress (from 0 to
    below 1), for going on with a stage that was finished. ``minutes`` replaces the stages' iterations by a time, shared
    between them in the recipe's proportion.
    """

    resume: Path | None = None
    rewind: float | None = None
    minutes: float | None = None
    device: str = "auto"


def train(
    config: TrainConfig,
    folder: Path,
    observe: Observer = ignore,
    options: RunOptions | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Path | None:
    """Train what ``config`` describes, keeping everything in ``folder``; returns the finished model's folder.

    Asked to ``stop``, it saves its state after the iteration at hand and returns None. Raises TrainingError,
    InputError, OutputError, DeviceError.
    """
    options = options or RunOptions()
    state = load_state(options.resume, config.model.spec) if options.resume else None
    with join_processes(options.device) as processes:
        check_batches(config, processes.count)
        run = Run(config, folder, observe, processes, seconds=state.seconds if state else 0.0)
        return _run_stages(run, _open_patches(run), state, options, stop)


def check_batches(config: TrainConfig, processes: int) -> None:
    """Raise TrainingError for a batch that so many processes cannot share evenly."""
    for number, stage in enumerate(config.stages, start=1):
        if stage.batch % processes:
            raise TrainingError(
                f"stage{number}.batch of {stage.batch} cannot be shared evenly by {processes} processes.",
                "Correct the recipe.",
            )


def _open_patches(run: Run) -> Pixels:
    """The leader makes the patches where they are missing; the others wait, then open them."""
    smallest = max(largest_window(stage.crop, run.config.scales) for stage in run.config.stages)
    if not run.processes.leads:
        run.processes.wait()
    patches = open_patches(run.config, smallest, run.tell)
    if run.processes.leads:
        run.processes.wait()
    return patches


def _run_stages(
    run: Run, patches: Pixels, state: RunState | None, options: RunOptions, stop: Callable[[], bool]
) -> Path | None:
    """Both stages, or what is left of them after ``state``, and the model they make; None if told to stop."""
    config, processes = run.config, run.processes
    torch.manual_seed(config.seed)
    model = Pcsr(config.model.spec).to(processes.device)
    for number, stage in enumerate(config.stages, start=1):
        if state is not None and state.stage > number:
            continue
        trainer = Trainer(model, number, stage, distributed=processes.count > 1)
        if state is not None and state.stage == number:
            trainer.restore(state)
            if options.rewind is not None:
                trainer.schedule.rewind(options.rewind)
        share = Share(processes.rank, processes.count)
        maker = BatchMaker(patches, stage, config.scales, (config.seed, number), share, processes.device)
        if not run_stage(run, trainer, maker, stop, _deadline(config, number, options.minutes)):
            return None
        if number == 1:
            run.save(trainer, STAGE_1_NAME)
        model.load_state_dict(trainer.averaged)
    return run.finish(model, trainer.schedule.step)


def _deadline(config: TrainConfig, stage: int, minutes: float | None) -> float | None:
    """When a stage that starts now has to end, by ``time.monotonic``; None where no time was set."""
    if minutes is None:
        return None
    share = config.stages[stage - 1].iterations / sum(each.iterations for each in config.stages)
    return time.monotonic() + 60 * minutes * share
