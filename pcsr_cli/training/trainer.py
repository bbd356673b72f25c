"""One stage's moving parts: network, optimizer, averaged weights, and one iteration of training them."""

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pcsr_cli.errors import TrainingError
from pcsr_cli.model.network import Pcsr
from pcsr_cli.training.batches import Batch
from pcsr_cli.training.config import StageConfig
from pcsr_cli.training.stages import HeavyStage, Loss, RoutingStage, freeze, trained_parts
from pcsr_cli.training.state import RunState, architecture


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


BETAS = (0.9, 0.99)


class Trainer:
    """Trains one stage of a model, in place; ``averaged`` holds the exponential moving average of its weights."""

    def __init__(self, model: Pcsr, stage: int, config: StageConfig, distributed: bool = False) -> None:
        self.model = model
        self.stage = stage
        self.config = config
        self.schedule = Schedule(config.iterations)
        self._parameters = freeze(model, trained_parts(model, stage))
        model.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.train()
        if stage == 2:
            model.encoder.eval()
        module: nn.Module = HeavyStage(model) if stage == 1 else RoutingStage(model, config)
        self._network = DistributedDataParallel(module) if distributed else module
        self._optimizer = torch.optim.Adam(self._parameters, lr=config.learning_rate, betas=BETAS, fused=True)
        self.averaged = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def iterate(self, batch: Batch) -> Loss:
        """One iteration: forward, backward, clip, step, average; returns the loss before the step."""
        rate = learning_rate(self.config, self.schedule)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        square = self.stage == 1 and self._in_tail(self.config.square_tail)
        with self._precision():
            loss: Loss = self._network(batch, square=True) if square else self._network(batch)
        self._optimizer.zero_grad()
        torch.autograd.backward(loss.total)
        nn.utils.clip_grad_norm_(self._parameters, self.config.clip)
        self._optimizer.step()
        self.schedule.advance()
        self._average()
        return loss

    def _precision(self) -> AbstractContextManager[object]:
        lowered = self.config.precision == "bfloat16" and not self._in_tail(self.config.float32_tail)
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=lowered)

    def _in_tail(self, share: float) -> bool:
        return self.schedule.progress >= 1 - share

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights toward the current ones; slower as the run grows older, up to ``ema``."""
        weight = max(1 - self.config.ema, 10 / (self.schedule.step + 10))
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                averaged.append(self.averaged[name])
                current.append(value)
            else:
                self.averaged[name].copy_(value)
        torch._foreach_lerp_(averaged, current, weight)

    def state(self, seconds: float) -> RunState:
        """Everything needed to go on from here, after ``seconds`` of training.

        Raises TrainingError where the weights are no numbers any more: from there nothing goes on.
        """
        place, weights = self.schedule, self.model.state_dict()
        if not all(bool(value.isfinite().all()) for value in (*weights.values(), *self.averaged.values())):
            raise TrainingError(
                f"The loss or the weights are no numbers any more at iteration {place.step}.",
                "Lower the stage's learning_rate; --resume goes on from the last good state, if one was saved.",
            )
        return RunState(
            stage=self.stage,
            step=place.step,
            progress=place.progress,
            seconds=seconds,
            architecture=architecture(self.model.spec),
            model=weights,
            ema=self.averaged,
            optimizer=self._optimizer.state_dict(),
            random=torch.get_rng_state(),
        )

    def restore(self, state: RunState) -> None:
        """Go on from ``state``. The stage's length is the recipe's, should it have changed.

        Raises TrainingError.
        """
        self.model.load_state_dict(state.model)
        for name, value in state.ema.items():
            self.averaged[name].copy_(value)
        try:
            self._optimizer.load_state_dict(state.optimizer)
        except ValueError as error:
            raise TrainingError(
                "The state's optimizer belongs to another network.", "Start anew, without --resume."
            ) from error
        self.schedule = Schedule(self.config.iterations, state.step, state.progress)
        torch.set_rng_state(state.random)
