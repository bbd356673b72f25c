"""``--peers``: networks of others, each in a file, timed beside ours, and their PSNR.

A ``.pt2`` is a saved ``torch.export`` program, a ``.ts`` a saved TorchScript module. Each takes RGB (1, 3, h, w) in
[0, 1] and returns RGB (1, 3, 4h, 4w). Both kinds of files can run code when they are loaded.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.timing import alternate
from pcsr_cli.engine.device import to_levels
from pcsr_cli.engine.rules import ALL_HEAVY, Routing, Threshold, usual_refine
from pcsr_cli.engine.upscale import Settings, upscale_whole
from pcsr_cli.evaluate.arguments import figure_class
from pcsr_cli.evaluate.metrics import psnr
from pcsr_cli.images.resize import resize_bicubic_8bit
from pcsr_cli.model.network import Pcsr

SCALE = 4
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
ROUTINGS: dict[str, Routing] = {"threshold": Threshold(0.5), "all heavy": ALL_HEAVY}

Levels = NDArray[np.uint8]
Rows = dict[str, dict[str, Any]]


def frontier(folder: Path, networks: Mapping[str, Pcsr], hr: Levels, runs: int) -> Rows:
    """Time the files of a folder and our networks alternately at x4, and compute their PSNR.

    ``hr`` (H, W, 3) is cut to multiples of 4 and reduced bicubically. A peer runs in both memory formats, and its row
    has the faster one. ``frontier`` is 1 in the rows that no other row beats in both time and PSNR.
    """
    height, width = (side // SCALE for side in hr.shape[:2])
    hr = hr[: SCALE * height, : SCALE * width]
    lr = torch.from_numpy(resize_bicubic_8bit(hr, height, width)).permute(2, 0, 1)[None].float() / 255
    candidates: dict[tuple[str, str], Callable[[], Tensor]] = {}  # by name and layout
    for name, network in networks.items():
        candidates |= {(f"{name}, {label}", ""): _ours(network, lr, rule) for label, rule in ROUTINGS.items()}
    for path in sorted(each for each in folder.iterdir() if each.suffix in {".pt2", ".ts"}):
        candidates |= {(path.name, layout): _peer(path, lr, layout) for layout in LAYOUTS}
    decibels = {name: psnr(run().numpy(), hr, SCALE) for (name, _), run in candidates.items()}
    rows: Rows = {}
    for (name, layout), taken in alternate(candidates, runs).items():
        if name not in rows or taken.median < rows[name]["seconds"]:
            row = {"dB": decibels[name], "seconds": taken.median, "fastest": taken.fastest}
            rows[name] = row | ({"channels last": int(layout == "channels last")} if layout else {})
    for row in rows.values():
        row["frontier"] = int(not any(o["seconds"] < row["seconds"] and o["dB"] > row["dB"] for o in rows.values()))
    return rows


def _ours(network: Pcsr, lr: Tensor, routing: Routing) -> Callable[[], Tensor]:
    settings = Settings(routing, refine=usual_refine(SCALE))
    return lambda: upscale_whole(network, lr, SCALE, settings, torch.uint8)[0]


def _peer(path: Path, lr: Tensor, layout: str) -> Callable[[], Tensor]:
    """A function that runs the network of a file in a memory format and returns 8-bit RGB (H, W, 3)."""
    network: Any = torch.export.load(path).module() if path.suffix == ".pt2" else torch.jit.load(path)  # type: ignore[no-untyped-call]
    network.to(memory_format=LAYOUTS[layout])
    x = lr.contiguous(memory_format=LAYOUTS[layout])
    wanted = (1, 3, SCALE * lr.shape[2], SCALE * lr.shape[3])

    @torch.inference_mode()
    def run() -> Tensor:
        result: Tensor = network(x)
        if result.shape != wanted:
            raise SystemExit(f"{path} returns {tuple(result.shape)} instead of {wanted}.")
        return to_levels(result[0].permute(1, 2, 0), torch.uint8)

    return run


def plot(rows: Rows, output: Path) -> None:
    """Draw dB over seconds. The points of the frontier are connected."""
    figure = figure_class()(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    best = sorted((row for row in rows.values() if row["frontier"]), key=lambda row: row["seconds"])
    axes.plot([row["seconds"] for row in best], [row["dB"] for row in best], color="0.7", zorder=1)
    for name, row in rows.items():
        axes.scatter(row["seconds"], row["dB"], label=name, zorder=2)
    axes.set(xscale="log", xlabel="seconds", ylabel="PSNR in dB")
    figure.legend(loc="outside right")
    figure.savefig(output)
