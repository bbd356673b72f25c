"""The model card that goes with trained weights: what they are, what they were made of, what they reach."""

import json
from pathlib import Path

from pcsr_cli.errors import OutputError
from pcsr_cli.model import Pcsr
from pcsr_cli.training.config import StageConfig, TrainConfig
from pcsr_cli.training.log import read_log

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
