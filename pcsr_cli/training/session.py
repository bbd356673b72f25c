"""A whole run: both stages, watched, measured and saved on the way, ending in a model's folder."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pcsr_cli.checkpoint import save_folder
from pcsr_cli.failures import outputs, training
from pcsr_cli.model import Pcsr
from pcsr_cli.training.batches import BatchMaker, Share, largest_window
from pcsr_cli.training.cache import Pixels, open_patches
from pcsr_cli.training.card import write_card
from pcsr_cli.training.config import StageConfig, TrainConfig
from pcsr_cli.training.events import Event, Observer, Saved, Validated, ignore
from pcsr_cli.training.log import Log
from pcsr_cli.training.loop import Surroundings, run_stage
from pcsr_cli.training.processes import Processes, join_processes
from pcsr_cli.training.state import RunState, load_state, save_state
from pcsr_cli.training.trainer import Trainer
from pcsr_cli.training.validation import Validator

STATE_NAME = "state.pt"
STAGE_1_NAME = "stage1.pt"
LOG_NAME = "log.jsonl"
MODEL_NAME = "model"


@dataclass(frozen=True)
class RunOptions:
    """How to run a recipe.

    ``resume`` is a state to go on from. ``rewind`` puts the learning rate's schedule back to that progress (0 to 1),
    for going on with a stage that was finished. ``minutes`` replaces the stages' iterations by a time, shared
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
        run = _Run(config, folder, observe, processes)
        return run.go(state, options, stop)


class _Run:
    """What the stages of a run share."""

    def __init__(self, config: TrainConfig, folder: Path, observe: Observer, processes: Processes) -> None:
        _check_batches(config, processes.count)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise outputs.NO_FOLDER(folder=folder, reason=error.strerror) from error
        self._config = config
        self._folder = folder
        self._observe = observe
        self._processes = processes
        self._log = Log(folder / LOG_NAME)
        self._started = time.monotonic()
        self._patches = self._open_patches()
        self._validator = None
        if config.validation and processes.leads:
            self._validator = Validator(config, processes.device, self._tell)

    def go(self, state: RunState | None, options: RunOptions, stop: Callable[[], bool]) -> Path | None:
        """Both stages, or what is left of them after ``state``."""
        torch.manual_seed(self._config.seed)
        model = Pcsr(self._config.model.spec).to(self._processes.device)
        if state is not None:
            self._started -= state.seconds
        for stage in (1, 2):
            if state is not None and state.stage > stage:
                continue
            trainer = Trainer(model, stage, self._stage(stage), distributed=self._processes.count > 1)
            if state is not None and state.stage == stage:
                trainer.restore(state)
                if options.rewind is not None:
                    trainer.schedule.rewind(options.rewind)
            if not self._run_stage(trainer, options, stop):
                return None
            model.load_state_dict(trainer.averaged)
        return self._finish(model, trainer.schedule.step)

    def _run_stage(self, trainer: Trainer, options: RunOptions, stop: Callable[[], bool]) -> bool:
        config, stage, processes = self._config, trainer.config, self._processes
        maker = BatchMaker(
            self._patches,
            stage,
            config.scales,
            seed=(config.seed, trainer.stage),
            share=Share(processes.rank, processes.count),
            device=processes.device,
        )
        around = Surroundings(
            processes,
            tell=self._tell,
            stop=stop,
            save=lambda: self._save(trainer, STATE_NAME),
            validate=lambda: self._validate(trainer),
            seconds=self._seconds,
        )
        deadline = None
        if options.minutes is not None:
            share = stage.iterations / (config.stage1.iterations + config.stage2.iterations)
            deadline = time.monotonic() + 60 * options.minutes * share
        finished = run_stage(trainer, maker, config, around, deadline)
        if finished and trainer.stage == 1:
            self._save(trainer, STAGE_1_NAME)
        return finished

    def _finish(self, model: Pcsr, steps: int) -> Path:
        """Write the model's folder, after ``steps`` iterations of the second stage: config, weights and card."""
        target = self._folder / MODEL_NAME
        if self._processes.leads:
            save_folder(model, self._config.trained_scales, target)
            write_card(self._config, model, target, self._folder / LOG_NAME, self._seconds())
            self._tell(Saved(target, 2, steps))
        self._processes.wait()
        return target

    def _validate(self, trainer: Trainer) -> None:
        if self._validator is not None:
            place = {"stage": trainer.stage, "step": trainer.schedule.step}
            for quality in self._validator.measure(trainer.averaged, trainer.stage):
                self._tell(Validated(**vars(quality), **place, seconds=self._seconds()))
        self._processes.wait()

    def _save(self, trainer: Trainer, name: str) -> None:
        if self._processes.leads:
            path = self._folder / name
            save_state(trainer.state(self._config.seed, self._seconds()), path)
            self._tell(Saved(path, trainer.stage, trainer.schedule.step))

    def _open_patches(self) -> Pixels:
        """The leader makes the patches where they are missing; the others wait, then open them."""
        smallest = max(largest_window(stage.crop, self._config.scales) for stage in self._config.stages)
        if self._processes.leads:
            patches = open_patches(self._config, smallest, self._tell)
        self._processes.wait()
        return patches if self._processes.leads else open_patches(self._config, smallest, self._tell)

    def _tell(self, event: Event) -> None:
        """Log an event and hand it to the observer; only the leading process does."""
        if self._processes.leads:
            self._log(event)
            self._observe(event)

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _stage(self, stage: int) -> StageConfig:
        return self._config.stages[stage - 1]


def _check_batches(config: TrainConfig, processes: int) -> None:
    for number, stage in enumerate(config.stages, start=1):
        if stage.batch % processes:
            raise training.UNEVEN_BATCH(stage=number, batch=stage.batch, processes=processes)
