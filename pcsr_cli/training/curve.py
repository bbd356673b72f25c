"""The run as a picture: loss and PSNR over iterations (needs matplotlib, which is an extra)."""

from pathlib import Path
from typing import Any

from pcsr_cli.errors import PlotError
from pcsr_cli.files import put_in_place, written_whole
from pcsr_cli.training.log import read_log


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
    with written_whole(output) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
        put_in_place(temporary, output)


def _curve(axes: Any, entries: list[dict[str, Any]], key: str, label: str, marker: str = "") -> None:
    axes.plot([e["step"] for e in entries], [e[key] for e in entries], label=label, marker=marker, linewidth=1)
    axes.set_xlabel("iteration")
    axes.set_ylabel(key)
    axes.set_title(label if key == "loss" else "")
    axes.grid(alpha=0.3)
