"""What the stages of a run share: its folder, its clock, and what is told, measured and saved on the way.

Of several processes the leading one does all that, and the others wait for it where it takes long.
"""

import time
from pathlib import Path

from pcsr_cli.checkpoint import save_folder
from pcsr_cli.errors import OutputError
from pcsr_cli.model import Pcsr
from pcsr_cli.training.card import write_card
from pcsr_cli.training.config import TrainConfig
from pcsr_cli.training.events import Event, Observer, Saved, Validated
from pcsr_cli.training.log import Log
from pcsr_cli.training.processes import Processes
from pcsr_cli.training.state import save_state
from pcsr_cli.training.trainer import Trainer
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
