"""Events of a training run, the log file that records them, and the model card and plot made from the log.

The library prints nothing. The command line shows the events, the log records them, and tests collect them."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from pcsr_cli.errors import OutputError, PlotError
from pcsr_cli.evaluate.arguments import figure_class
from pcsr_cli.images.files import atomic_write, reason
from pcsr_cli.model.network import Pcsr
from pcsr_cli.training.config import TrainConfig


@dataclass(frozen=True)
class Skipped:
    """An image that cannot be used, and the reason."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Decoded:
    """Image number ``done`` of ``total`` was cut into patches."""

    path: Path
    done: int
    total: int


@dataclass(frozen=True)
class Progress:
    """Progress of a stage since the last report.

    ``loss`` is the mean loss, ``rate`` the iterations per second, and ``crops`` the LR crops per second. ``seconds`` is
    the age of the run and ``seconds_left`` the time until the stage ends. ``heavy_share`` is the mean probability of
    the heaviest branch, None in the first stage."""

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
class Validated:
    """The quality of the averaged weights at one scale, averaged over the validation images.

    ``psnr`` (dB), ``heavy_share`` and ``flops`` (executed, per image) use the default routing in the second stage and
    the heaviest branch for all pixels in the first. ``psnr_heavy`` uses the heaviest branch for all pixels.
    ``psnr_bicubic`` is the PSNR of bicubic upscaling. ``seconds`` is the age of the run."""

    scale: int
    psnr: float
    psnr_heavy: float
    psnr_bicubic: float
    heavy_share: float
    flops: float
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


@dataclass(frozen=True)
class Log:
    """An observer that appends every event to the file ``path``, one JSON object per line."""

    path: Path

    def __call__(self, event: Event) -> None:
        """Append an event. Raises OutputError."""
        entry = {"event": type(event).__name__.lower(), "time": datetime.now(UTC).isoformat(timespec="seconds")}
        line = json.dumps({**entry, **asdict(event)}, default=str).encode() + b"\n"
        try:
            with self.path.open("ab+") as stream:
                if stream.tell():  # a crash may have truncated the last line
                    stream.seek(-1, os.SEEK_END)
                    line = line if stream.read() == b"\n" else b"\n" + line
                stream.write(line)
        except OSError as error:
            step = "Free space, or choose another folder."
            raise OutputError(f"Cannot write the log {self.path}: {reason(error)}.", step) from error


def read_log(path: Path, event: str) -> Iterator[dict[str, Any]]:
    """Yield the entries of one kind of event, oldest first; none if there is no log.

    Lines that a crash truncated are skipped."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("event") == event:
            yield entry


def write_card(config: TrainConfig, model: Pcsr, folder: Path, log: Path, seconds: float) -> None:
    """Write the model card into ``folder``; the figures come from ``log``. Raises OutputError."""
    template = Path(__file__).with_name("card.md.jinja").read_text(encoding="utf-8")
    validated = {entry["scale"]: entry for entry in read_log(log, "validated") if entry["stage"] == 2}
    text = jinja2.Template(template, undefined=jinja2.StrictUndefined, trim_blocks=True).render(
        config=config,
        base_name=lambda path: Path(path).name,
        parameters=model.parameter_count(),
        total_share=sum(scale.share for scale in config.scales),
        hours=seconds / 3600,
        steps={1: 0, 2: 0} | {entry["stage"]: entry["step"] for entry in read_log(log, "saved")},
        figures=[entry for _, entry in sorted(validated.items())] if config.validation else [],
    )
    with atomic_write(folder / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")


def plot_run(log: Path, output: Path) -> None:
    """Plot the loss and the PSNR of each stage from ``log`` and write the PNG to ``output``.

    Raises PlotError if matplotlib is missing or the log has no progress, and OutputError."""
    new_figure = figure_class()
    progress, validated = list(read_log(log, "progress")), list(read_log(log, "validated"))
    if not progress:
        raise PlotError(f"{log} has no progress to plot.", "Train for longer.")
    figure = new_figure(figsize=(9, 3.5 + 3.5 * bool(validated)), layout="constrained")
    panels = figure.subplots(2 if validated else 1, 2, squeeze=False)
    for column, stage in enumerate((1, 2)):
        curves = [(panels[0][column], "loss", "", [entry for entry in progress if entry["stage"] == stage])]
        for scale in sorted({entry["scale"] for entry in validated}):
            entries = [entry for entry in validated if (entry["stage"], entry["scale"]) == (stage, scale)]
            curves.append((panels[1][column], "psnr_heavy" if stage == 1 else "psnr", f"x{scale}", entries))
        for axes, key, label, entries in curves:
            axes.plot(
                [entry["step"] for entry in entries],
                [entry[key] for entry in entries],
                label=label,
                marker="." if label else "",
            )
            axes.set(title=f"stage {stage}", xlabel="iteration", ylabel="PSNR, dB" if label else "loss")
            axes.set_yscale("linear" if label else "log")
            axes.grid(alpha=0.3)
            if label:
                axes.legend()
    with atomic_write(output) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
