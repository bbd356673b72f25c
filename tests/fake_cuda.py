"""The engine on fake CUDA tensors, which have a shape, a type and a device but no values.

The plan is made beforehand, and operations that read values return plausible ones. Any other access to values fails.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pcsr_cli.engine import upscale as upscaling
from pcsr_cli.engine.routing import Cuts
from pcsr_cli.engine.upscale import Outcome, Settings, plan_for, upscale_whole
from pcsr_cli.model.flops import model_costs
from pcsr_cli.model.network import Pcsr
from tests.tiny import tiny_spec

CUDA = torch.device("cuda:0")


@dataclass(frozen=True)
class Traffic:
    """The transfers between host and device.

    ``waits`` counts by name the operations that block the host: ``nonzero``, ``item``, ``tolist``, and the blocking
    copies ``to host`` and ``to device``. ``uploads`` and ``downloads`` count the asynchronous copies, and ``arrivals``
    counts the waits for one of them.
    """

    outcome: Outcome
    waits: Counter[str] = field(default_factory=Counter)
    uploads: int = 0
    downloads: int = 0
    arrivals: int = 0


class _WithoutCuda(TorchFunctionMode):
    """Makes tensor methods work on fake CUDA tensors in a build of PyTorch without CUDA.

    The methods would initialise the CUDA runtime, but their operators do not. Reads of values are counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        stand_ins: dict[Callable[..., Any], Callable[..., Any]] = {
            Tensor.__getitem__: _indexed,
            Tensor.__setitem__: lambda x, index, value: torch.ops.aten.copy_(_indexed(x, index), value),
            Tensor.__invert__: torch.ops.aten.bitwise_not,
            Tensor.contiguous: _contiguous,
            Tensor.copy_: torch.ops.aten.copy_,
            Tensor.__deepcopy__: _copied,
            nn.Parameter.__deepcopy__: _copied,
        }
        numbers: dict[Callable[..., Any], Callable[..., Any]] = {
            Tensor.nonzero: _some,
            Tensor.item: lambda x: 1,
            Tensor.tolist: lambda x: [0] * x.numel(),
        }
        if func in numbers and args[0].device.type == "cuda":
            self.reads[getattr(func, "__name__", "")] += 1
        return {**stand_ins, **numbers}.get(func, func)(*args, **(kwargs or {}))


def _contiguous(x: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    copy: Tensor = torch.ops.aten.clone(x, memory_format=memory_format)
    return copy


def _copied(x: Tensor, memo: object) -> nn.Parameter:
    return nn.Parameter(torch.ops.aten.clone(x), requires_grad=False)


def _some(x: Tensor, as_tuple: bool = False) -> Tensor | tuple[Tensor, ...]:
    """Half of all indices."""
    found = torch.zeros(x.numel() // 2, x.ndim, dtype=torch.int64, device=x.device)
    return found.unbind(dim=1) if as_tuple else found


def _indexed(x: Tensor, index: Any) -> Tensor:
    dim, items = 0, index if isinstance(index, tuple) else (index,)
    for number, item in enumerate(items):
        if isinstance(item, int):
            x = torch.ops.aten.select(x, dim, item)
            continue
        if item is Ellipsis:
            dim = x.ndim - sum(later is not None for later in items[number + 1 :])
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


class _Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts blocking and asynchronous copies between devices."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.blocking: Counter[str] = Counter()
        self.asynchronous_copies: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        copying = {"aten::_to_copy": (0, None), "aten::to": (0, None), "aten::copy_": (1, 2)}.get(func._schema.name)
        if copying is not None:
            source, flag = args[copying[0]], copying[1]
            asynchronous = kwargs.get("non_blocking", flag is not None and len(args) > flag and args[flag])
            counts = self.asynchronous_copies if asynchronous else self.blocking
            if (source.device.type, out.device.type) == ("cuda", "cpu"):
                counts["to host"] += 1
            if (source.device.type, out.device.type) == ("cpu", "cuda"):
                counts["to device"] += 1
        return out


class _Arrivals:
    """Replaces the events of CUDA and counts the waits for them."""

    def __init__(self) -> None:
        self.waited_for = 0

    def __call__(self) -> "_Arrivals":
        return self

    def record(self, stream: object) -> None:
        assert stream == CUDA, "the stream of another device"

    def synchronize(self) -> None:
        self.waited_for += 1


def _decide_without_numbers(values: Tensor, branches: int) -> Cuts:
    assert values.device.type == "cpu", "ADM clusters on the host"
    return Cuts((0.5,) * (branches - 1))


class _SurveyWithoutNumbers:
    def __init__(self, total: int) -> None:
        self.total = total

    def add(self, values: Tensor) -> None:
        values.cpu()

    def values(self) -> Tensor:
        return torch.empty(self.total, device="cpu")


def run_on_fake_cuda(
    monkeypatch: pytest.MonkeyPatch,
    backbone: str,
    how: Settings,
    lr_size: tuple[int, int] = (4, 8),
    branches: int = 2,
    dtype: torch.dtype = torch.float32,
) -> Traffic:
    """Upscale an image by 1.5 as if on a GPU."""
    with torch.device("meta"):
        model = Pcsr(tiny_spec(backbone, branches)).eval()
    plan = plan_for(model, lr_size, 1.5, how)
    monkeypatch.setattr(upscaling, "plan_for", lambda *_: plan)
    monkeypatch.setattr(upscaling, "decide_adaptively", _decide_without_numbers)
    monkeypatch.setattr(upscaling, "DifficultySurvey", _SurveyWithoutNumbers)
    arrivals = _Arrivals()
    monkeypatch.setattr(torch.cuda, "Event", arrivals)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
    state = model.state_dict()
    model_costs(model)  # counts on a network on the meta device, which fake tensors do not allow
    with FakeTensorMode(), _Copies() as copies, _WithoutCuda() as methods:
        on_cuda = {key: torch.empty(value.shape, dtype=value.dtype, device=CUDA) for key, value in state.items()}
        model.load_state_dict(on_cuda, assign=True)
        _, _, outcome = upscale_whole(model, torch.empty(1, 3, *lr_size), 1.5, how, dtype)
    moved = copies.asynchronous_copies
    return Traffic(outcome, methods.reads + copies.blocking, moved["to device"], moved["to host"], arrivals.waited_for)
