"""A training session: from a recipe, or a state on the way, through both stages to a model's folder."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pcsr_cli.errors import TrainingError
from pcsr_cli.model import Pcsr
from pcsr_cli.training.batches import BatchMaker, Share, largest_window
from pcsr_cli.training.cache import Pixels, open_patches
from pcsr_cli.training.config import TrainConfig
from pcsr_cli.training.events import Observer, ignore
from pcsr_cli.training.loop import run_stage
from pcsr_cli.training.processes import join_processes
from pcsr_cli.training.run import STAGE_1_NAME, Run
from pcsr_cli.training.state import RunState, load_state
from pcsr_cli.training.trainer import Trainer


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
