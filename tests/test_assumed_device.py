"""No tensor is made on an assumed device: the engine runs on fake CUDA tensors, which refuse any mixture of devices.

Fake tensors know their shape, type and device, but hold no numbers. So the plan is made beforehand, and where the
engine looks at numbers it is told something plausible.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from pcsr_cli import engine, sampling
from pcsr_cli.engine import ByteCanvas, FloatCanvas, Outcome, Settings, plan_for, upscale
from pcsr_cli.grid import Axis, make_axis
from pcsr_cli.model import Pcsr
from pcsr_cli.routing import Adaptive, Cuts, Routing, Threshold, Tradeoff
from tests.tiny import BACKBONES, tiny_spec

LR_SIZE = (4, 8)
CUDA = torch.device("cuda:0")

ROUTINGS = [Threshold(0.3), Tradeoff(1), Adaptive()]


class _WithoutCuda(TorchFunctionMode):
    """Lets Python's own tensor methods work on fake CUDA tensors in a build of PyTorch without CUDA.

    They would look for the CUDA runtime although there is nothing to run; the operators behind them do not.
    What asks for numbers gets made-up ones.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        stand_ins: dict[Callable[..., Any], Callable[..., Any]] = {
            Tensor.__getitem__: _indexed,
            Tensor.__setitem__: lambda x, index, value: torch.ops.aten.copy_(_indexed(x, index), value),
            Tensor.__invert__: torch.ops.aten.bitwise_not,
            Tensor.contiguous: lambda x: torch.ops.aten.clone(x, memory_format=torch.contiguous_format),
            Tensor.nonzero: lambda x: torch.zeros(x.numel() // 2, x.ndim, dtype=torch.int64, device=x.device),
            Tensor.item: lambda x: 1,
        }
        return stand_ins.get(func, func)(*args, **(kwargs or {}))


def _indexed(x: Tensor, index: Any) -> Tensor:
    dim = 0
    for item in index if isinstance(index, tuple) else (index,):
        if isinstance(item, int):
            x = torch.ops.aten.select(x, dim, item)
            continue
        if item is None:
            x = x.unsqueeze(dim)
        elif isinstance(item, slice):
            x = torch.ops.aten.slice(x, dim, item.start, item.stop)
        else:
            assert isinstance(item, Tensor)
            x = torch.ops.aten.index(x, [None] * dim + [item])
        dim += 1
    return x


def run_on_fake_cuda(
    monkeypatch: pytest.MonkeyPatch,
    backbone: str,
    routing: Routing,
    branches: int = 2,
    canvas_type: type[FloatCanvas] | type[ByteCanvas] = FloatCanvas,
) -> Outcome:
    with torch.device("meta"):
        model = Pcsr(tiny_spec(backbone, branches)).eval()
    how = Settings(routing, tile=5)
    plan = plan_for(model, LR_SIZE, 1.5, how)
    monkeypatch.setattr(engine, "plan_for", lambda *_: plan)
    monkeypatch.setattr(engine, "decide_adaptively", _decide_without_numbers)
    state = model.state_dict()
    with FakeTensorMode(), _WithoutCuda():
        on_cuda = {key: torch.empty(value.shape, dtype=value.dtype, device=CUDA) for key, value in state.items()}
        model.load_state_dict(on_cuda, assign=True)
        return upscale(model, torch.empty(1, 3, *LR_SIZE), 1.5, how, canvas_type(*plan.hr_size))


def _decide_without_numbers(values: Tensor, branches: int) -> Cuts:
    assert values.device.type == "cpu", "ADM clusters on the host"
    return Cuts((0.5,) * (branches - 1))


@pytest.mark.parametrize("routing", ROUTINGS, ids=repr)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_everything_is_made_on_the_models_device(
    monkeypatch: pytest.MonkeyPatch, backbone: str, routing: Routing
) -> None:
    outcome = run_on_fake_cuda(monkeypatch, backbone, routing)
    assert len(outcome.plan.tiles) > 1


@pytest.mark.parametrize("routing", [Tradeoff(1), Adaptive()], ids=repr)
def test_three_branches_are_no_exception(monkeypatch: pytest.MonkeyPatch, routing: Routing) -> None:
    run_on_fake_cuda(monkeypatch, "dense", routing, branches=3)


def test_bytes_come_back_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    run_on_fake_cuda(monkeypatch, "dense", Threshold(), canvas_type=ByteCanvas)


@pytest.mark.parametrize("left_behind", ["nearest", "rel", "low", "weight"])
def test_a_tensor_left_on_the_host_is_caught(monkeypatch: pytest.MonkeyPatch, left_behind: str) -> None:
    def forgetful(lr_length: int, hr_length: int, start: int, stop: int, device: torch.device) -> Axis:
        axis = make_axis(lr_length, hr_length, start, stop, device)
        forgotten = getattr(make_axis(lr_length, hr_length, start, stop, torch.device("cpu")), left_behind)
        return replace(axis, **{left_behind: forgotten})

    monkeypatch.setattr(sampling, "make_axis", forgetful)
    with pytest.raises(RuntimeError, match=r"device"):
        run_on_fake_cuda(monkeypatch, "dense", Threshold())
