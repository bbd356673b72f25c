"""``python -m benchmarks``: the engine against the formula as written, the originals, and the machine.

The picture is the one that ships, cut to 420x276 like the demo image of the paper's repository, unless another is
given. The originals' weights are random: time does not depend on them.
"""

import argparse
import copy
import json
import platform
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

import pcsr_cli
from benchmarks.originals import prepared_original
from benchmarks.timing import Timed, alternate, dense_conv_rate, matmul_rate
from pcsr_cli.canvas import ByteCanvas
from pcsr_cli.engine import Outcome, Settings, upscale
from pcsr_cli.flops import executed_flops, model_costs, original_flops
from pcsr_cli.grid import hr_size
from pcsr_cli.model import Pcsr
from pcsr_cli.models import load_model
from pcsr_cli.nets import ORIGINALS, Original
from pcsr_cli.routing import Adaptive, Routing, Threshold
from tests import reference

SIZE = (276, 420)
SCALING = ((128, 128), (512, 512), (1080, 1920), (2160, 3840))


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("--model", action="append", help="registry name, folder, ...; may be given several times")
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--scaling", action="store_true", help="also time growing pictures (minutes)")
    arguments.add_argument("--picture", type=Path, help="an LR picture to use instead of the one that ships")
    arguments.add_argument("--json", action="store_true")
    asked = arguments.parse_args()
    picture = _picture(asked.picture)
    document: dict[str, object] = {"machine": _machine(), "picture": f"{picture.shape[3]}x{picture.shape[2]}"}
    for name in asked.model or ["builtin"]:
        network = load_model(name).network
        document[name] = _compare(network, picture, asked.runs)
        if asked.scaling:
            document[f"{name} scaling"] = _scaling(network, asked.runs)
    if asked.json:
        json.dump(document, sys.stdout, indent=2)
        return
    _print(document)


def _compare(network: Pcsr, lr: Tensor, runs: int) -> dict[str, dict[str, float]]:
    """The engine by threshold and by ADM, the formula as written, and the original network, in one alternating run."""
    outcomes: dict[str, Outcome] = {}

    def engine(routing: Routing, name: str) -> None:
        canvas = ByteCanvas(*hr_size((lr.shape[2], lr.shape[3]), 4))
        outcomes[name] = upscale(network, lr, 4, Settings(routing), canvas)

    contestants: dict[str, Callable[[], object]] = {
        "threshold 0.5": lambda: engine(Threshold(), "threshold 0.5"),
        "ADM": lambda: engine(Adaptive(), "ADM"),
        "formula as written": lambda: reference.upscale(network, lr, 4, Threshold()),
    }
    flops: dict[str, float] = {}
    backbone = network.spec.backbone.name
    if backbone in ORIGINALS:
        net = ORIGINALS[backbone]().eval().requires_grad_(False)
        x = network.normalise(lr)
        last = x.contiguous(memory_format=torch.channels_last)
        prepared = prepared_original(net)
        nets = {"original": net, "original, channels last": _channels_last(net)}
        contestants["original"] = lambda: _inferred(nets["original"], x)
        contestants["original, channels last"] = lambda: _inferred(nets["original, channels last"], last)
        contestants["original, prepared"] = lambda: _inferred(prepared, x)
        cost = original_flops(backbone, lr.shape[2] * lr.shape[3])
        assert cost is not None
        flops = dict.fromkeys(("original", "original, channels last", "original, prepared"), cost.executed)
    timed = alternate(contestants, runs)
    costs = model_costs(network)
    flops |= {name: executed_flops(costs, outcome.executed) for name, outcome in outcomes.items()}
    peak = matmul_rate()
    return {name: _row(time, flops.get(name), timed["threshold 0.5"], peak) for name, time in timed.items()}


def _row(timed: Timed, flops: float | None, engine: Timed, peak: float) -> dict[str, float]:
    row = {"seconds": timed.median, "fastest": timed.fastest, "slowest": timed.slowest}
    row["times the engine's"] = timed.median / engine.median
    if flops is not None:
        row |= {"executed GFLOPs": flops / 1e9, "GFLOP/s": flops / timed.median / 1e9}
        row["share of matmul rate"] = flops / timed.median / peak
    return row


def _scaling(network: Pcsr, runs: int) -> dict[str, dict[str, float]]:
    """Nanoseconds an LR pixel takes, for pictures from small to 4K, and the peak of memory so far."""
    rows = {}
    for height, width in SCALING:
        lr = torch.from_numpy(_tiled(height, width)).permute(2, 0, 1)[None].float() / 255

        def run(lr: Tensor = lr, size: tuple[int, int] = (4 * height, 4 * width)) -> None:
            upscale(network, lr, 4, Settings(), ByteCanvas(*size))

        timed = alternate({"run": run}, max(1, min(runs, 20_000_000 // (height * width * 16))))["run"]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows[f"{width}x{height}"] = {
            "seconds": timed.median,
            "ns per LR pixel": timed.median * 1e9 / (height * width),
            "peak MiB": peak,
        }
    return rows


def _channels_last(net: Original) -> Original:
    converted = copy.deepcopy(net)
    for parameter in converted.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return converted


@torch.inference_mode()
def _inferred(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return function(x)


def _picture(path: Path | None) -> Tensor:
    levels = np.asarray(Image.open(path).convert("RGB")) if path else _tiled(*SIZE)
    return torch.from_numpy(levels.copy()).permute(2, 0, 1)[None].float() / 255


def _tiled(height: int, width: int) -> NDArray[np.uint8]:
    """The picture that ships, repeated and cut to size."""
    shipped = np.asarray(Image.open(Path(__file__).parent.parent / "examples" / "chelsea.png").convert("RGB"))
    times = (-(-height // shipped.shape[0]), -(-width // shipped.shape[1]), 1)
    return np.tile(shipped, times)[:height, :width].copy()


def _machine() -> dict[str, object]:
    return {
        "pcsr": pcsr_cli.__version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "matmul GFLOP/s": round(matmul_rate() / 1e9),
        "dense 3x3 GFLOP/s": round(dense_conv_rate() / 1e9),
    }


def _print(document: dict[str, object]) -> None:
    console = Console()
    for name, content in document.items():
        assert isinstance(content, dict | str)
        if isinstance(content, str) or not all(isinstance(row, dict) for row in content.values()):
            console.print(f"{name}: {content}")
            continue
        columns = list(dict.fromkeys(key for row in content.values() for key in row))
        table = Table("", *columns, title=name, box=None)
        for label, row in content.items():
            table.add_row(label, *(f"{row[column]:.3f}" if column in row else "" for column in columns))
        console.print(table)


if __name__ == "__main__":
    main()
