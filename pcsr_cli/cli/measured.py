"""What was measured, as CSV and JSON, for ``bench``, ``sweep`` and ``report``."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcsr_cli.cli.console import printable
from pcsr_cli.images.files import atomic_write

if TYPE_CHECKING:
    from pcsr_cli.evaluate.dataset import SkippedImage
    from pcsr_cli.evaluate.sweep import Curve, Options
    from pcsr_cli.model.registry import LoadedModel


def write_rows(output: Path, rows: Sequence[Any], replace: bool) -> None:
    """Write dataclasses of one kind as CSV, whole or not at all; what there is not is empty. Raises OutputError."""
    names = [field.name for field in fields(rows[0])]
    with atomic_write(output, replace) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows:
            writer.writerow([_cell(getattr(row, name)) for name in names])


def provenance(model: "LoadedModel") -> Mapping[str, object]:
    """What measured: versions, weights, device."""
    import torch

    import pcsr_cli
    from pcsr_cli.engine.device import describe_device

    return {
        "pcsr": pcsr_cli.__version__,
        "torch": torch.__version__,
        "model": asdict(model.identity),
        "device": describe_device(model.network.device),
        "threads": torch.get_num_threads(),
        "precision": model.network.precision,
    }


def curves_document(
    model: "LoadedModel",
    asked: "Options",
    curves: "Sequence[Curve]",
    skipped: "Sequence[SkippedImage]",
    no_reference: bool,
) -> dict[str, object]:
    """The curves of a sweep and their mean as a JSON document."""
    from pcsr_cli.evaluate.sweep import KNEE_RULE, mean_curve

    return {
        **provenance(model),
        "scale": asked.scale,
        "refine": asked.refine,
        "grid": {"of": asked.grid.kind, "values": list(asked.grid.values)},
        "psnr_of": "luma" if asked.luma else "RGB",
        "psnr_against": "all heavy" if no_reference else "HR",
        "knee_rule": KNEE_RULE,
        "curves": [_described(curve) for curve in curves],
        "mean": _described(mean_curve(curves) if len(curves) > 1 else curves[0]),
        "skipped": skipped_entries(skipped),
    }


def skipped_entries(skipped: "Sequence[SkippedImage]") -> list[dict[str, str]]:
    """The pictures that could not be measured, for JSON."""
    return [{key: printable(value) for key, value in asdict(one).items()} for one in skipped]


def _described(curve: "Curve") -> dict[str, object]:
    marks = {"light": curve.light, "heavy": curve.heavy, "adm": curve.adm, "knee": curve.knee}
    named = {name: None if point is None else asdict(point) for name, point in marks.items()}
    original = None if curve.original is None else asdict(curve.original)
    points = [asdict(point) for point in curve.points]
    return {"picture": printable(curve.picture), "points": points, **named, "original": original}


def _cell(value: object) -> object:
    if value is None:
        return ""
    return "x".join(map(str, value)) if isinstance(value, tuple) else value
