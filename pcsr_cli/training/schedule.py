"""How far a stage is, and the learning rate that follows from it.

Progress goes from 0 to 1: evenly over the iterations left, whose number may be re-planned on the way (a resume with
another length, or a deadline). The rate falls along half a cosine of the progress, so that a new plan bends the curve
without a jump.
"""

import math
from dataclasses import dataclass

from pcsr_cli.training.config import StageConfig


@dataclass
class Schedule:
    """The mutable place in a stage: iteration ``step`` is the next one of ``last_step``."""

    last_step: int
    step: int = 0
    progress: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether every planned iteration is done."""
        return self.step >= self.last_step

    def advance(self) -> None:
        """One iteration is done."""
        self.progress += (1 - self.progress) / max(1, self.last_step - self.step)
        self.step += 1

    def replan(self, last_step: int) -> None:
        """Let the rest of the stage end at another iteration."""
        self.last_step = max(last_step, self.step)

    def rewind(self, progress: float) -> None:
        """Go on from an earlier point of the curve, with as many iterations more as it leaves of the planned ones."""
        self.progress = progress
        self.last_step = self.step + round((1 - progress) * self.last_step)


def learning_rate(config: StageConfig, schedule: Schedule) -> float:
    """Linear warm-up over the first iterations, times a cosine from the first rate to the final one."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, schedule.progress)))
    rate = config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine
    return rate * min(1.0, (schedule.step + 1) / (config.warmup + 1))
