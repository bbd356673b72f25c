"""The model card that goes with trained weights: what they are, what they were made of, what they reach."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pcsr_cli.errors import OutputError, PlotError
from pcsr_cli.images.files import atomic_write
from pcsr_cli.model.network import Pcsr
from pcsr_cli.training.config import StageConfig, TrainConfig
from pcsr_cli.training.events import Event


class Log:
    """An observer that writes every event to a file."""

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
                f"The log cannot be written to {self._path}: {error.strerror}.", "Free space, or choose another folder."
            ) from error


def read_log(path: Path, event: str) -> Iterator[dict[str, Any]]:
    """The log's entries of one kind, oldest first; none without a log. A line cut short by a crash is left out."""
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


def write_card(config: TrainConfig, model: Pcsr, folder: Path, log: Path, seconds: float) -> None:
    """Write ``README.md`` beside the weights, its figures from the run's log. Raises OutputError."""
    parts = [
        _header(config),
        _network(config, model),
        _data(config),
        _recipe(config, log, seconds),
        _figures(config, log),
    ]
    try:
        (folder / CARD_NAME).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"The model card cannot be written to {folder}: {error.strerror}.", "Free space, or choose another folder."
        ) from error


def _header(config: TrainConfig) -> str:
    licence = config.licence.lower()
    front = f"---\nlicense: {licence}\nlibrary_name: pcsr\npipeline_tag: image-to-image\ntags:\n- super-resolution\n---"
    return (
        f"{front}\n\n# {config.name}\n\nA PCSR super-resolution network (Jeong et al., ECCV 2024) trained with `pcsr "
        f"train`, for {config.trained_scales}. Licence: {config.licence}.\n\n"
        f"    pcsr upscale small.png large.png --scale {config.trained_scales.largest:g} --model FOLDER"
    )


def _network(config: TrainConfig, model: Pcsr) -> str:
    spec = config.model.spec
    depth = f", depth {spec.backbone.depth}" if spec.backbone.depth else ""
    samplers = ", ".join(json.dumps(list(hidden)) for hidden in spec.samplers)
    return (
        f"## Network\n\nBackbone `{spec.backbone.name}` of {spec.backbone.width} channels{depth}; samplers of hidden "
        f"sizes {samplers}, lightest first; classifier {json.dumps(list(spec.classifier))}. "
        f"{model.parameter_count():,} parameters."
    )


def _data(config: TrainConfig) -> str:
    rows = ["## Data", "", "| pictures | licence | shrunk by |", "|---|---|---|"]
    for source in config.data.sources:
        shrunk = ", ".join(f"{reduction:g}" for reduction in source.reductions)
        rows.append(f"| {source.title or source.path.name} | {source.licence or 'not stated'} | {shrunk} |")
    rows += [
        "",
        f"Cut into patches of {config.data.patch} pixels, the most detailed {config.data.keep:.0%} of them used.",
    ]
    return "\n".join(rows)


def _recipe(config: TrainConfig, log: Path, seconds: float) -> str:
    whole = sum(share.share for share in config.scales)
    scales = ", ".join(
        f"x{share.low:g}" + (f" to x{share.high:g}" if share.high > share.low else "") + f" {share.share / whole:.0%}"
        for share in config.scales
    )
    done = {entry["stage"]: entry["step"] for entry in read_log(log, "saved")}
    lines = [
        "## Recipe",
        "",
        f"Batches by scale: {scales}. Seed {config.seed}. {seconds / 3600:.1f} hours in all.",
        "",
        f"1. Backbone and heaviest sampler, L1: {done.get(1, 0):,} iterations, {_stage(config.stage1)}.",
        f"2. Lighter samplers and classifier, the rest frozen: {done.get(2, 0):,} iterations, {_stage(config.stage2)}; "
        f"balance {config.stage2.balance:g} toward a heavy share of {config.stage2.heavy_share:g}.",
    ]
    return "\n".join(lines)


def _stage(stage: StageConfig) -> str:
    return (
        f"batch {stage.batch}, LR crops of {stage.crop}, Adam from "
        f"{stage.learning_rate:g} along a cosine, {stage.precision}, averaged weights ({stage.ema:g})"
    )


def _figures(config: TrainConfig, log: Path) -> str:
    last = {entry["scale"]: entry for entry in read_log(log, "validated") if entry["stage"] == 2}
    if config.validation is None or not last:
        return "## Figures\n\nNot measured."
    rows = [
        "## Figures",
        "",
        f"On `{config.validation.path.name}`: whole pictures, RGB, 8 bits, as many border pixels shaved as the scale; "
        "routed and refined as `pcsr upscale` does it unless told otherwise.",
        "",
        "| scale | routed | heavy pixels | all heavy | bicubic | executed GFLOPs a picture |",
        "|---|---|---|---|---|---|",
    ]
    for scale, entry in sorted(last.items()):
        rows.append(
            f"| x{scale} | {entry['psnr']:.2f} dB | {entry['heavy_share']:.1%} | {entry['psnr_heavy']:.2f} dB "
            f"| {entry['psnr_bicubic']:.2f} dB | {entry['flops'] / 1e9:.2f} |"
        )
    return "\n".join(rows)


def plot_run(log: Path, output: Path) -> None:
    """Draw what ``log`` tells of each stage's loss and of the PSNR.

    Raises PlotError without matplotlib or without a log, OutputError.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError("Plots need matplotlib.", "Install it with: pip install 'pcsr[plot]'.") from error
    progress, validated = list(read_log(log, "progress")), list(read_log(log, "validated"))
    if not progress:
        raise PlotError(f"{log} tells of no iteration yet.", "Train on until it does.")
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
