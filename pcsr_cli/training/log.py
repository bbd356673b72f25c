"""Events of a training run, the log file that records them, and the model card and plot made from the log.

The library prints nothing. The command line shows the events, the log records them, and tests collect them.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pcsr_cli.errors import OutputError, PlotError
from pcsr_cli.images.files import atomic_write, reason
from pcsr_cli.model.network import Pcsr
from pcsr_cli.training.config import ScaleShare, StageConfig, TrainConfig


@dataclass(frozen=True)
class Skipped:
    """An image that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Decoded:
    """An image was cut into patches: number ``done`` of ``total``."""

    path: Path
    done: int
    total: int


@dataclass(frozen=True)
class Progress:
    """Progress of a stage since the last report.

    ``loss`` is the mean loss, ``rate`` counts iterations per second, ``crops`` counts LR crops per second. ``seconds``
    is the age of the run and ``seconds_left`` the time until the stage ends. ``heavy_share`` is the mean probability of
    the heaviest branch; it exists in the second stage only.
    """

    stage: int
    step: int
    last_step: int
    loss: float
    learning_rate: float
    rate: float
    crops: float
    seconds: float
    seconds_left: float
    heavy_share: float | None = None


@dataclass(frozen=True)
class Quality:
    """The quality of some weights at one scale, averaged over the validation images.

    ``psnr`` (dB), ``heavy_share`` and ``flops`` (executed, per image) use the default routing in the second stage and
    the heaviest branch for all pixels in the first. ``psnr_heavy`` uses the heaviest branch for all pixels.
    ``psnr_bicubic`` is the PSNR of bicubic upscaling.
    """

    scale: int
    psnr: float
    psnr_heavy: float
    psnr_bicubic: float
    heavy_share: float
    flops: float


@dataclass(frozen=True)
class Validated(Quality):
    """The quality of the averaged weights after ``step`` iterations of ``stage``, ``seconds`` into the run."""

    stage: int
    step: int
    seconds: float


@dataclass(frozen=True)
class Saved:
    """The state of the run, or the finished model, was written to ``path``."""

    path: Path
    stage: int
    step: int


Event = Skipped | Decoded | Progress | Validated | Saved
Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Discard an event."""


class Log:
    """An observer that appends every event to a file, one JSON object per line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, event: Event) -> None:
        """Append an event. Raises OutputError."""
        entry = {"event": type(event).__name__.lower(), "time": datetime.now(UTC).isoformat(timespec="seconds")}
        line = json.dumps({**entry, **asdict(event)}, default=str)
        try:
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as error:
            raise OutputError(
                f"Cannot write the log {self._path}: {reason(error)}.", "Free space, or choose another folder."
            ) from error


def read_log(path: Path, event: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of one kind of event, oldest first; none if there is no log.

    A line that a crash cut short is skipped.
    """
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("event") == event:
            yield entry


CARD_NAME = "README.md"

_CARD = """\
---
license: {licence_tag}
library_name: pcsr
pipeline_tag: image-to-image
tags:
- super-resolution
---

# {config.name}

A PCSR super-resolution network (Jeong et al., ECCV 2024) for {scales}, trained with `pcsr train`.
Licence: {config.licence}.

    pcsr upscale small.png large.png --scale {scales.largest:g} --model FOLDER

## Network

Backbone `{backbone.name}` with {backbone.width} channels{depth}. {parameters:,} parameters.
Hidden sizes of the samplers, lightest first: {samplers}. Hidden sizes of the classifier: {classifier}.

## Data

| images | licence | shrunk by |
|---|---|---|
{sources}

The images are cut into patches of {config.data.patch} pixels. The most detailed {config.data.keep:.0%} are used.

## Recipe

Batches by scale: {shares}. Seed {config.seed}. Training took {hours:.1f} hours.

1. Backbone and heaviest sampler, {loss}: {steps_1:,} iterations, {stage_1}.
2. Lighter samplers and classifier, the rest frozen: {steps_2:,} iterations, {stage_2}.
   Balance weight {config.stage2.balance:g}, target share of heavy pixels {config.stage2.heavy_share:g}.

## Figures

{figures}
"""


def write_card(config: TrainConfig, model: Pcsr, folder: Path, log: Path, seconds: float) -> None:
    """Write the model card into ``folder``; the figures come from ``log``. Raises OutputError."""
    spec = config.model.spec
    steps = {entry["stage"]: entry["step"] for entry in read_log(log, "saved")}
    tail = config.stage1.square_tail
    text = _CARD.format(
        config=config,
        licence_tag=config.licence.lower(),
        scales=config.trained_scales,
        backbone=spec.backbone,
        depth=f", depth {spec.backbone.depth}" if spec.backbone.depth else "",
        samplers=", ".join(str(list(hidden)) for hidden in spec.samplers),
        classifier=list(spec.classifier),
        parameters=model.parameter_count(),
        sources="\n".join(
            f"| {source.title or Path(source.path).name} | {source.licence or 'not stated'} "
            f"| {', '.join(f'{reduction:g}' for reduction in source.reductions)} |"
            for source in config.data.sources
        ),
        shares=_shares(config.scales),
        hours=seconds / 3600,
        loss=f"L1 loss, mean squared error in the last {tail:.0%}" if tail else "L1 loss",
        steps_1=steps.get(1, 0),
        stage_1=_stage(config.stage1),
        steps_2=steps.get(2, 0),
        stage_2=_stage(config.stage2),
        figures=_figures(config, log),
    )
    try:
        (folder / CARD_NAME).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"Cannot write the model card to {folder}: {reason(error)}.", "Free space, or choose another folder."
        ) from error


def _shares(scales: tuple[ScaleShare, ...]) -> str:
    total = sum(scale.share for scale in scales)
    return ", ".join(
        f"x{scale.low:g}" + (f" to x{scale.high:g}" if scale.high > scale.low else "") + f" {scale.share / total:.0%}"
        for scale in scales
    )


def _stage(stage: StageConfig) -> str:
    return (
        f"batch {stage.batch}, LR crops of {stage.crop} pixels, Adam from {stage.learning_rate:g} along a cosine, "
        f"{stage.precision}, averaged weights ({stage.ema:g})"
    )


def _figures(config: TrainConfig, log: Path) -> str:
    last = {entry["scale"]: entry for entry in read_log(log, "validated") if entry["stage"] == 2}
    if config.validation is None or not last:
        return "Not measured."
    rows = "\n".join(
        f"| x{scale} | {entry['psnr']:.2f} dB | {entry['heavy_share']:.1%} | {entry['psnr_heavy']:.2f} dB "
        f"| {entry['psnr_bicubic']:.2f} dB | {entry['flops'] / 1e9:.2f} |"
        for scale, entry in sorted(last.items())
    )
    return (
        f"Measured on `{Path(config.validation.path).name}`: whole images, RGB, 8 bits, without as many border pixels "
        "as the scale, with the default routing and refinement of `pcsr upscale`.\n\n"
        "| scale | routed | heavy pixels | all heavy | bicubic | executed GFLOPs per image |\n"
        f"|---|---|---|---|---|---|\n{rows}"
    )


def plot_run(log: Path, output: Path) -> None:
    """Plot the loss and the PSNR of each stage from ``log`` and write the PNG to ``output``.

    Raises PlotError without matplotlib or without progress in the log, OutputError.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError("Plots need matplotlib.", "Install it with: pip install 'pcsr[plot]'.") from error
    progress, validated = list(read_log(log, "progress")), list(read_log(log, "validated"))
    if not progress:
        raise PlotError(f"{log} has no progress to plot.", "Train for longer.")
    figure = Figure(figsize=(9, 3.5 + 3.5 * bool(validated)), layout="constrained")
    panels = figure.subplots(2 if validated else 1, 2, squeeze=False)
    for column, stage in enumerate((1, 2)):
        of_stage = [entry for entry in progress if entry["stage"] == stage]
        _curve(panels[0][column], of_stage, "loss", f"stage {stage}")
        panels[0][column].set_yscale("log")
        for scale in sorted({entry["scale"] for entry in validated}):
            rows = [entry for entry in validated if entry["stage"] == stage and entry["scale"] == scale]
            key = "psnr_heavy" if stage == 1 else "psnr"
            _curve(panels[1][column], rows, key, f"x{scale:g}", marker="o")
            panels[1][column].set_ylabel("PSNR, dB")
            panels[1][column].legend()
    with atomic_write(output) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _curve(axes: Any, entries: list[dict[str, Any]], key: str, label: str, marker: str = "") -> None:
    axes.plot([e["step"] for e in entries], [e[key] for e in entries], label=label, marker=marker, linewidth=1)
    axes.set_xlabel("iteration")
    axes.set_ylabel(key)
    axes.set_title(label if key == "loss" else "")
    axes.grid(alpha=0.3)
