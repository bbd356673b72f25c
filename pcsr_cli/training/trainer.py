"""Training of one stage: network, optimizer, averaged weights and schedule, and the state file that stores them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from msgspec import Meta, Struct
from msgspec.structs import asdict
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pcsr_cli.errors import ModelError, TrainingError
from pcsr_cli.images.files import atomic_write
from pcsr_cli.model.checkpoint import load_pickle
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.spec import ModelSpec, Scales, convert, write_config
from pcsr_cli.training.batches import Batch
from pcsr_cli.training.config import MAX_NUMBER, NotNegative, Share, StageConfig
from pcsr_cli.training.stages import HeavyStage, Loss, RoutingStage, freeze

FORMAT = 1
BETAS = (0.9, 0.99)
START_NEW = "Check the path, or start a new run."
DAMAGED = "The training state is damaged, or its weights and optimizer belong to another network."


class RunState(Struct, frozen=True):
    """The state of a run between two iterations. The next iteration is ``step`` of ``stage``.

    Batches depend only on the recipe's seed, ``stage`` and ``step``, so the state holds nothing about the data.
    ``progress`` is the position on the learning-rate curve, 0 to 1. ``seconds`` is the training time so far. ``random``
    is the state of torch's random generator."""

    stage: Annotated[int, Meta(ge=1, le=2)]
    step: Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
    progress: Share
    seconds: NotNegative
    architecture: dict[str, Any]
    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Any]
    random: Tensor


def architecture(spec: ModelSpec) -> dict[str, Any]:
    """The part of a network's description that a state and a recipe must share: everything except the scales."""
    described = write_config(spec, Scales((1.0,)))
    return {key: value for key, value in described.items() if key not in {"scales", "continuous"}}


def save_state(state: RunState, path: Path) -> None:
    """Write ``state`` to ``path`` atomically. Raises OutputError."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        torch.save({"format": FORMAT, **asdict(state)}, stream)


def load_state(path: Path, spec: ModelSpec) -> RunState:
    """Read the state of a run that trains a network of ``spec``.

    Raises TrainingError if the state is missing, broken, or of another architecture."""
    try:
        content = load_pickle(path)
    except ModelError as error:
        raise TrainingError(f"Cannot resume: {error.sentence}", START_NEW) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TrainingError(f"{path} is not a training state of this version.", START_NEW)
    state = convert(content, RunState, str(path), TrainingError, START_NEW)
    if state.architecture != architecture(spec):
        raise TrainingError(
            f"{path} has another architecture than [model] in the recipe.", "Restore [model], or start a new run."
        )
    return state


@dataclass
class Schedule:
    """The position in a stage: the next iteration is ``step`` of ``last_step``.

    ``progress`` is the position on the learning-rate curve, 0 to 1. ``progress`` moves evenly toward 1 over the
    remaining iterations, so the curve has no jump when ``last_step`` changes."""

    last_step: int
    step: int = 0
    progress: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether all iterations are done."""
        return self.step >= self.last_step

    def advance(self) -> None:
        """Count one iteration."""
        self.progress += (1 - self.progress) / max(1, self.last_step - self.step)
        self.step += 1


def learning_rate(config: StageConfig, schedule: Schedule) -> float:
    """The learning rate: a linear warm-up over the first iterations, times a cosine from the initial rate to the final
    rate."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, schedule.progress)))
    rate = config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine
    return rate * min(1.0, (schedule.step + 1) / (config.warmup + 1))


def average_weights(model: Pcsr, decay: float) -> AveragedModel:
    """A copy of ``model`` that ``update_parameters`` moves toward the current weights.

    The decay is n / (n + 10) after n updates, at most ``decay``, so a young average does not keep the initial weights.
    """

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            updates = int(average.n_averaged)  # the same number as count, but always on the CPU
            get_ema_multi_avg_fn(min(decay, updates / (updates + 10)))(averaged, current, count)  # type: ignore
        else:  # the batch counter of BatchNorm
            for target, source in zip(averaged, current, strict=True):
                target.copy_(source)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    average.n_averaged.fill_(1)  # the initial weights are part of the average
    return average


class Branches(nn.Module):
    """Additional linear branches of a 3x3 convolution while it trains: 1x1, 3x3, 1x1, and a single 1x1.

    This parametrization of the kernel (out, in, 3, 3) adds the kernels of the branches, so the trained convolution is
    one kernel again. The branches contribute nothing at first. Sources: Ding et al., CVPR 2021; Zhang et al., ACM MM
    2021."""

    def __init__(self, kernel: Tensor, gain: int) -> None:
        super().__init__()
        width_out, width_in = kernel.shape[:2]
        wide = nn.Conv2d(gain * width_in, gain * width_out, 3, bias=False)
        self.widen = nn.Parameter(nn.Conv2d(width_in, gain * width_in, 1, bias=False).weight.detach()[:, :, 0, 0])
        self.wide = nn.Parameter(wide.weight.detach())
        self.narrow = nn.Parameter(torch.zeros(width_out, gain * width_out))
        self.centre = nn.Parameter(torch.zeros(width_out, width_in))
        self.to(kernel.device)

    def forward(self, kernel: Tensor) -> Tensor:
        """The kernel and all branches as one kernel."""
        with torch.autocast(kernel.device.type, enabled=False):
            wide = torch.einsum("om,mnhw,ni->oihw", self.narrow, self.wide, self.widen)
            return kernel + wide + F.pad(self.centre[:, :, None, None], (1, 1, 1, 1))


def add_branches(model: Pcsr, gain: int) -> None:
    """Add branches to every ungrouped 3x3 convolution of the backbone. Branches have ``gain`` times as many channels as
    the convolution; a gain of 0 adds none."""
    for layer in model.encoder.modules() if gain else ():
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3) and layer.groups == 1:
            parametrize.register_parametrization(layer, "weight", Branches(layer.weight, gain))


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a model without branches that computes the same result."""
    state = {name: value for name, value in model.state_dict().items() if ".parametrizations." not in name}
    for name, layer in model.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            state[f"{name}.weight"] = layer.weight.detach()
    return state


class Graphs:
    """Runs iterations as CUDA graphs. Launching the kernels of a small network takes longer than running them.

    Each combination of shapes and settings runs WARM_UP times as usual and is then captured."""

    WARM_UP = 3

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._memory = torch.cuda.graph_pool_handle()  # shared: one graph runs at a time, and its results are copied
        self._runs: dict[object, int] = {}
        self._captured: dict[object, tuple[torch.cuda.CUDAGraph, Batch, Loss]] = {}

    def run(self, iterate: Callable[[Batch], Loss], batch: Batch, settings: object) -> Loss:
        """Run ``iterate`` on a batch. For the same ``settings``, ``iterate`` must do the same work each time."""
        key = (settings, *(tensor.shape for tensor in batch.tensors))
        self._runs[key] = self._runs.get(key, 0) + 1
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            if self._runs[key] <= self.WARM_UP:
                loss = iterate(batch)
            else:
                if key not in self._captured:
                    graph, inputs = torch.cuda.CUDAGraph(), Batch.of([tensor.clone() for tensor in batch.tensors])
                    with torch.cuda.graph(graph, self._memory, self._stream):
                        captured = iterate(inputs)
                    self._captured[key] = (graph, inputs, captured)
                graph, inputs, captured = self._captured[key]
                torch._foreach_copy_(inputs.tensors, batch.tensors)
                graph.replay()
                share = captured.heavy_share
                loss = Loss(captured.total.clone(), None if share is None else share.clone())
        torch.cuda.current_stream().wait_stream(self._stream)
        return loss


class Trainer:
    """Trains one stage of a model in place. ``branches`` is the gain of ``add_branches``, used in the first stage."""

    def __init__(
        self, model: Pcsr, stage: int, config: StageConfig, distributed: bool = False, branches: int = 0
    ) -> None:
        if stage == 1:
            add_branches(model, branches)
        self.model = model
        self.stage = stage
        self.config = config
        self.schedule = Schedule(config.iterations)
        self._parameters = freeze(model, stage)
        model.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        model.train()
        if stage == 2:
            model.encoder.eval()
        self._average = average_weights(model, config.ema)
        module: nn.Module = HeavyStage(model) if stage == 1 else RoutingStage(model, config)
        self._network = DistributedDataParallel(module) if distributed else module
        device = model.device
        self._rate = torch.tensor(config.learning_rate, device=device)
        self._graphs = Graphs(device) if device.type == "cuda" and not distributed else None
        self._optimizer = torch.optim.Adam(
            self._parameters, lr=self._rate, betas=BETAS, fused=True, capturable=self._graphs is not None
        )

    @property
    def averaged(self) -> dict[str, Tensor]:
        """The exponential moving average of the model's state dict, with branches merged."""
        return merged_state(self._average.module)

    def iterate(self, batch: Batch) -> Loss:
        """Run one iteration and return the loss before the optimizer's step."""
        config, progress = self.config, self.schedule.progress
        self._rate.fill_(learning_rate(config, self.schedule))
        lowered = config.precision == "bfloat16" and progress < 1 - config.float32_tail
        square = self.stage == 1 and progress >= 1 - config.square_tail

        def work(batch: Batch) -> Loss:
            return self._work(batch, lowered, square)

        loss = work(batch) if self._graphs is None else self._graphs.run(work, batch, (lowered, square))
        self.schedule.advance()
        self._average.update_parameters(self.model)
        return loss

    def _work(self, batch: Batch, lowered: bool, square: bool) -> Loss:
        """The part of an iteration that runs on the device."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=lowered, cache_enabled=False):
            loss: Loss = self._network(batch, square=True) if square else self._network(batch)
        self._optimizer.zero_grad(set_to_none=False)
        torch.autograd.backward(loss.total)
        nn.utils.clip_grad_norm_(self._parameters, self.config.clip)
        self._optimizer.step()
        return Loss(loss.total.detach(), loss.heavy_share)

    def state(self, seconds: float) -> RunState:
        """The state to resume from, after ``seconds`` of training.

        Raises TrainingError if the weights are not finite."""
        weights, averaged = self.model.state_dict(), self._average.module.state_dict()
        if not all(bool(value.isfinite().all()) for value in (*weights.values(), *averaged.values())):
            raise diverged(self.schedule.step)
        return RunState(
            stage=self.stage,
            step=self.schedule.step,
            progress=self.schedule.progress,
            seconds=seconds,
            architecture=architecture(self.model.spec),
            model=weights,
            ema=averaged,
            optimizer=self._optimizer.state_dict(),
            random=torch.get_rng_state(),
        )

    def restore(self, state: RunState) -> None:
        """Continue from ``state``. The recipe sets the length of the stage. Raises TrainingError."""
        own = self._optimizer.state_dict()["param_groups"]
        try:
            self.model.load_state_dict(state.model)
            self._average.module.load_state_dict(state.ema)
            for group, saved in zip(own, state.optimizer["param_groups"], strict=True):
                group["params"] = saved["params"]
            self._optimizer.load_state_dict({"state": state.optimizer["state"], "param_groups": own})
            for group in self._optimizer.param_groups:
                group["lr"] = self._rate
            torch.set_rng_state(state.random)
            for parameter, moments in self._optimizer.state.items():
                shapes = {value.shape for value in moments.values()}
                if moments.keys() != {"step", "exp_avg", "exp_avg_sq"} or not shapes <= {parameter.shape, ()}:
                    raise ValueError("the moments are incomplete or have other shapes than the weights")
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise TrainingError(DAMAGED, START_NEW) from error
        self._average.n_averaged.fill_(state.step + 1)
        self.schedule = Schedule(self.config.iterations, state.step, state.progress)


def diverged(step: int) -> TrainingError:
    """The error of a run whose loss or weights are not finite after ``step`` iterations of a stage."""
    return TrainingError(
        f"Training diverged: the loss or the weights are not finite at iteration {step}.",
        "Lower the stage's learning_rate and resume from the last saved state.",
    )
