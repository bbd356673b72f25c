"""``python -m benchmarks``: times the engine, the formula as written, the original networks and the machine.

The default image is the packaged photograph, cropped to 420x276 like the demo image of the paper's repository. The
original networks and the models ``fsrcnn`` and ``srresnet`` have random weights, which do not affect the time.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import against, peers
from benchmarks.machine import CONV, MATMUL, RATED, RATED_FLOPS, Rated, machine
from benchmarks.networks import Measured, measured_network
from benchmarks.stages import BACKBONE, REST, stage_flops, timed_engine
from benchmarks.timing import Timed, alternate, timed
from pcsr_cli.api import load_model
from pcsr_cli.engine.device import peak_memory
from pcsr_cli.engine.fused.kernels import onednn_problem
from pcsr_cli.engine.fused.originals import prepared_original
from pcsr_cli.engine.rules import Adaptive, Routing, usual_refine
from pcsr_cli.engine.upscale import Outcome, Settings, upscale_whole
from pcsr_cli.model.backbones import ORIGINALS, Original
from pcsr_cli.model.flops import executed_flops, model_costs, original_flops
from pcsr_cli.model.network import Pcsr
from tests import reference

SIZE = (276, 420)
SCALING = ((128, 128), (512, 512), (1080, 1920), (2160, 3840))
WIDTH = 140
"""Columns of the tables if the output is not a terminal."""

ENGINE, ADM, BF16, WHOLE = "threshold", "ADM", "threshold, bf16", "whole"
OUTSIDE = "all but the backbone"

Rows = dict[str, dict[str, float]]


def main() -> None:
    """Run the benchmarks and print tables or JSON."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    arguments.add_argument("--model", action="append", help="model name, folder or file; may be repeated")
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--scaling", action="store_true", help="also time images of growing size (takes minutes)")
    arguments.add_argument("--image", type=Path, help="another LR image; with --peers an HR image")
    arguments.add_argument("--peers", type=Path, help="only compare with the networks (*.pt2, *.ts) of this folder")
    arguments.add_argument("--against", type=Path, help="only compare with another checkout of pcsr, at several scales")
    arguments.add_argument("--plot", type=Path, help="draw PSNR over seconds of --peers to this file")
    arguments.add_argument("--json", action="store_true")
    asked = arguments.parse_args()
    if asked.peers:
        _report(_frontier(asked), asked.json)
        return
    if asked.against:
        path = asked.image or against.HERE / "examples" / "chelsea.png"
        how = (path, torch.get_num_threads(), asked.runs)
        models = asked.model or ["builtin"]
        compared = {Path(name).name: against.compare(asked.against, name, *how) for name in models}
        _report({"machine": machine(), **compared}, asked.json)
        return
    image = _load_image(asked.image)
    document: dict[str, object] = {"machine": machine(), "image": f"{image.shape[3]}x{image.shape[2]}"}
    for path in asked.model or ["builtin"]:
        measured, name = measured_network(path, image), Path(path).name
        rows, rates = _compare(measured, image, asked.runs)
        document[f"{name}: weights"] = measured.weights
        document[f"{name}: machine, GFLOP/s"] = {rated: round(rate / 1e9, 1) for rated, rate in rates.items()}
        document[name] = rows
        document[f"{name}: stages"] = _stages(measured, image, asked.runs)
        if asked.scaling:
            document[f"{name}: scaling"] = _scaling(measured.network, asked.runs)
    _report(document, asked.json)


def _report(document: dict[str, object], as_json: bool) -> None:
    if as_json:
        json.dump(document, sys.stdout, indent=2)
    else:
        _print(document)


def _frontier(asked: argparse.Namespace) -> dict[str, object]:
    """Compare models with the networks of a folder. ``--image`` is an HR image."""
    hr = _tiled(*(peers.SCALE * side for side in SIZE))
    if asked.image:
        hr = np.asarray(Image.open(asked.image).convert("RGB"))
    networks = {Path(name).name: load_model(name).network for name in asked.model or ["builtin"]}
    rows = peers.frontier(asked.peers, networks, hr, asked.runs)
    if asked.plot:
        peers.plot(rows, asked.plot)
    return {"machine": machine(), "HR image": f"{hr.shape[1]}x{hr.shape[0]}", "peers": rows}


def _compare(measured: Measured, lr: Tensor, runs: int) -> tuple[Rows, dict[str, float]]:
    """Time the engine (threshold and ADM), the formula as written and the original network in one alternating run.

    Also returns the machine's rates in FLOP/s from the same run.
    """
    network = measured.network
    outcomes: dict[str, Outcome] = {}

    def engine(routing: Routing, name: str) -> None:
        outcomes[name] = _upscale(network, lr, routing)

    rated = Rated()
    candidates: dict[str, Callable[[], object]] = {
        ENGINE: lambda: engine(measured.threshold, ENGINE),
        ADM: lambda: engine(Adaptive(), ADM),
        "formula as written": lambda: reference.upscale(network, lr, 4, measured.threshold),
        MATMUL: rated.multiply,
        CONV: rated.convolve,
    }
    if onednn_problem(torch.bfloat16) is None:
        in_bf16 = copy.deepcopy(network)
        in_bf16.dtype = torch.bfloat16
        candidates[BF16] = lambda: _upscale(in_bf16, lr, measured.threshold)
    backbone = network.spec.backbone.name
    flops: dict[str, float] = {}
    if backbone in ORIGINALS:
        originals = _originals(network, lr)
        cost = original_flops(backbone, 4, lr.shape[2] * lr.shape[3])
        assert cost is not None
        flops = dict.fromkeys(originals, cost.executed)
        candidates |= originals
    taken = alternate(candidates, runs)
    rates = {name: RATED_FLOPS[name] / taken.pop(name).median for name in RATED}
    costs = model_costs(network)
    flops |= {name: executed_flops(costs, outcome.executed) for name, outcome in outcomes.items()}
    return {name: _row(each, flops.get(name), rates, taken[ENGINE]) for name, each in taken.items()}, rates


def _originals(network: Pcsr, lr: Tensor) -> dict[str, Callable[[], object]]:
    """Return the original network in PyTorch's two memory formats, and with the engine's optimisations."""
    net = ORIGINALS[network.spec.backbone.name]().eval().requires_grad_(False)
    x = network.normalise(lr)
    last, converted, prepared = (
        x.contiguous(memory_format=torch.channels_last),
        _channels_last(net),
        prepared_original(net),
    )
    return {
        "original": lambda: _inferred(net, x),
        "original, channels last": lambda: _inferred(converted, last),
        "original, prepared": lambda: _inferred(prepared, x),
    }


def _row(taken: Timed, flops: float | None, rates: dict[str, float], engine: Timed | None = None) -> dict[str, float]:
    row = {"seconds": taken.median, "fastest": taken.fastest, "slowest": taken.slowest}
    if engine is not None:
        row["times the engine's"] = taken.median / engine.median
    if flops is not None:
        row |= {"executed GFLOPs": flops / 1e9, "GFLOP/s": flops / taken.median / 1e9}
        row |= {f"of {name}": flops / taken.median / rate for name, rate in rates.items()}
    return row


def _stages(measured: Measured, lr: Tensor, runs: int) -> Rows:
    """Time the engine by stage, and the machine's rates in the same run."""
    taken: dict[str, list[float]] = {}
    outcomes: list[Outcome] = []

    def engine() -> None:
        started = time.perf_counter()
        with timed_engine() as watch:
            outcomes.append(_upscale(measured.network, lr, measured.threshold))
        whole = time.perf_counter() - started
        outside, rest = whole - watch.seconds[BACKBONE], whole - sum(watch.seconds.values())
        for stage, seconds in {**watch.seconds, REST: rest, OUTSIDE: outside, WHOLE: whole}.items():
            taken.setdefault(stage, []).append(seconds)

    rated = Rated()
    rated_taken = alternate({MATMUL: rated.multiply, CONV: rated.convolve, "engine": engine}, runs)
    rates = {name: RATED_FLOPS[name] / rated_taken[name].median for name in RATED}
    costs = model_costs(measured.network)
    flops = {**stage_flops(costs, outcomes[-1]), WHOLE: executed_flops(costs, outcomes[-1].executed)}
    # The first run is the warm-up.
    times = {stage: timed(seconds[1:]) for stage, seconds in taken.items()}
    backbone = times[BACKBONE].median
    return {
        stage: _row(each, flops.get(stage), rates) | {"of the backbone's time": each.median / backbone}
        for stage, each in times.items()
    }


def _upscale(network: Pcsr, lr: Tensor, routing: Routing) -> Outcome:
    return upscale_whole(network, lr, 4, Settings(routing, refine=usual_refine(4)), torch.uint8)[2]


def _scaling(network: Pcsr, runs: int) -> dict[str, dict[str, float]]:
    """Time images from small to 4K, in nanoseconds per LR pixel, and record the peak memory so far."""
    rows = {}
    for height, width in SCALING:
        lr = torch.from_numpy(_tiled(height, width)).permute(2, 0, 1)[None].float() / 255

        def run(lr: Tensor = lr) -> None:
            upscale_whole(network, lr, 4, Settings(refine=usual_refine(4)), torch.uint8)

        taken = alternate({"run": run}, max(1, min(runs, 20_000_000 // (height * width * 16))))["run"]
        peak = (peak_memory(lr.device) or 0) / 2**20
        rows[f"{width}x{height}"] = {
            "seconds": taken.median,
            "ns per LR pixel": taken.median * 1e9 / (height * width),
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


def _load_image(path: Path | None) -> Tensor:
    levels = np.asarray(Image.open(path).convert("RGB")) if path else _tiled(*SIZE)
    return torch.from_numpy(levels.copy()).permute(2, 0, 1)[None].float() / 255


def _tiled(height: int, width: int) -> NDArray[np.uint8]:
    """Return the packaged photograph, repeated and cropped to a size."""
    shipped = np.asarray(Image.open(Path(__file__).parent.parent / "examples" / "chelsea.png").convert("RGB"))
    times = (-(-height // shipped.shape[0]), -(-width // shipped.shape[1]), 1)
    return np.tile(shipped, times)[:height, :width].copy()


def _print(document: dict[str, object]) -> None:
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for name, content in document.items():
        assert isinstance(content, dict | str)
        if isinstance(content, str) or not all(isinstance(row, dict) for row in content.values()):
            console.print(f"{name}: {content}")
            continue
        columns = list(dict.fromkeys(key for row in content.values() for key in row))
        table = Table("", *columns, title=name, box=None)
        for label, row in content.items():
            table.add_row(label, *(f"{row[column]:.4g}" if column in row else "" for column in columns))
        console.print(table)


if __name__ == "__main__":
    main()
