"""The table of the paper's appendix over one folder: original networks, methods that route patches, and PCSR.

Every method reads the same LR images and is compared with the same part of HR. HR is cut to a multiple of 12 before it
is reduced. The paper's figures of the original networks imply this cut. Then HR and LR are cut to the patch grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pcsr_cli.evaluate.arguments import CutGrid, Method
from pcsr_cli.evaluate.bench import Row, bench
from pcsr_cli.evaluate.dataset import PairFiles, SkippedImage, each_pair
from pcsr_cli.evaluate.runner import Conditions
from pcsr_cli.evaluate.sweep import Point, mean_curve, sweep

MULTIPLE = 12
"""HR is cut to a multiple of this number of pixels."""

MATCHES = CutGrid("k", (-25, -10, -6, -4, *(round(-3 + 0.1 * step, 1) for step in range(71))))
"""The points between which the k that matches a peer is interpolated."""

MARGIN = 0.005
"""A peer's PSNR counts as reached if the best PSNR of PCSR is at most this many dB below it."""


@dataclass(frozen=True)
class PaperTable:
    """The mean row of each method over a folder. ``notes`` state which figures of peers PCSR cannot match."""

    folder: str
    images: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    skipped: tuple[SkippedImage, ...]


@dataclass(frozen=True)
class Match:
    """A method of PCSR and the figure of a peer that it matches, such as ``PSNR of ClassSR``."""

    method: Method
    figure: str


def paper_table(
    conditions: Conditions,
    folder: str,
    files: Sequence[PairFiles],
    methods: Sequence[Method],
    peers: Sequence[Method] = (),
    lr_float: bool = False,
    observe: Callable[[Row, NDArray[np.uint8]], None] = lambda row, rgb: None,
    skip: Callable[[SkippedImage], None] = lambda image: None,
) -> PaperTable:
    """Measure ``methods``, and PCSR with the k that match the PSNR and the GFLOPs of ``peers``. Raises the errors of
    ``bench``."""
    files = [replace(each, multiple=MULTIPLE, lr_float=lr_float) for each in files]
    matches, notes = find_matches(conditions, files, peers) if peers else ([], [])
    chosen = tuple(dict.fromkeys((*methods, *(match.method for match in matches))))
    result = bench(conditions, files, chosen, paper=True, observe=observe, skip=skip)
    rows = []
    for method, row in zip(chosen, result.mean, strict=True):
        figures = [match.figure for match in matches if match.method == method]
        rows.append(replace(row, image=folder, method=", ".join((row.method, *figures))))
    return PaperTable(folder, len(files) - len(result.skipped), tuple(rows), tuple(notes), result.skipped)


def find_matches(
    conditions: Conditions, files: Sequence[PairFiles], peers: Sequence[Method]
) -> tuple[list[Match], list[str]]:
    """For each peer, find the cheapest k that reaches its mean PSNR, and the k that has its mean GFLOPs.

    The curve of mean PSNR over k is composed from one run of both branches on each image. Also returns one sentence for
    each figure that is out of reach. Raises the errors of ``bench``."""
    targets = bench(conditions, files, peers, paper=True).mean
    alone = replace(conditions, original=None, peers={})
    curves, _ = each_pair(
        files, conditions.scale, lambda pair: sweep(alone, pair, MATCHES), lambda image: None, paper=True
    )
    points = mean_curve(curves).points
    best = max(point.psnr for point in points)
    matches, notes = [], []
    for target in targets:
        assert target.psnr is not None and target.paper is not None
        if best < target.psnr - MARGIN:
            notes.append(
                f"The PSNR of {target.method}, {target.psnr:.3f} dB, is out of reach: PCSR has at most {best:.3f} dB."
            )
        else:
            aim = min(best, target.psnr)
            matches.append(Match(_at(points, lambda point: point.psnr, aim), f"PSNR of {target.method}"))
        if points[-1].paper <= target.paper <= points[0].paper:
            matches.append(Match(_at(points, lambda point: point.paper, target.paper), f"GFLOPs of {target.method}"))
        else:
            notes.append(
                f"The {target.paper:.2f} GFLOPs of {target.method} are out of reach: PCSR costs from "
                f"{points[-1].paper:.2f} to {points[0].paper:.2f}."
            )
    return matches, notes


def _at(points: Sequence[Point], figure: Callable[[Point], float], aim: float) -> Method:
    """Interpolate between points of ascending k, and return the largest k whose figure reaches ``aim``."""
    values = list(zip(MATCHES.values, map(figure, points), strict=True))
    k, reached = values[-1]
    for before, value in reversed(values[:-1]):
        if reached >= aim:
            break
        k = before if value < aim else before + (k - before) * (value - aim) / (value - reached)
        reached = value
    return Method("k", round(k, 4))
