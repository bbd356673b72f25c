"""``pcsr export``: write a model as ONNX."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from pcsr_cli.cli import options
from pcsr_cli.cli.console import print_document, print_message
from pcsr_cli.cli.options import option
from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.images.paths import check_outputs

EXAMPLES = options.examples(
    "pcsr export builtin builtin_x2.onnx --scale 2  # for images of any size",
    "pcsr export builtin tile.onnx --size 256x256  # for one size only",
)

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Export a name in the list of `pcsr models`, user/repo@revision, a folder or a file.",
        autocompletion=options.complete_model,
    ),
]
Output = Annotated[Path, typer.Argument(metavar="OUT.onnx", help="Write the ONNX file here.")]
Scale = Annotated[float, options.scale_option("Enlarge by this whole number.")]
InputSize = Annotated[
    str | None, option("--size", "Fix the size of the input: WIDTHxHEIGHT.", metavar="SIZE", default="any size")
]
Threshold = Annotated[
    float | None, option("--threshold", "Route: heavy if p_heavy is above this, 0 to 1.", default="all heavy")
]


def command(
    model: Model,
    output: Output,
    scale: Scale = 4.0,
    size: InputSize = None,
    threshold: Threshold = None,
    registry: options.RegistryFile = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a model as one ONNX graph (opset 18): RGB (1, 3, h, w) in 0..1 to RGB of the enlarged size."""
    options.check_output_mode(json, quiet)
    if output.suffix.lower() != ".onnx":
        raise RefusedOutputError(f"Cannot export to {output.name!r}.", "Use a name that ends in .onnx.")
    check_outputs([output], [Path(model)], overwrite)
    from pcsr_cli.jobs.target import make_target

    box = None if size is None else make_target("fit", size)
    if not all(find_spec(name) for name in ("onnx", "onnxscript")):
        raise UsageError("Exports need onnx and onnxscript.", "Run: pip install onnx onnxscript.")
    loaded = options.load_model(model, "cpu", "fp32", registry, scale, json or quiet)
    from pcsr_cli.engine import export

    whole = export.check_export(loaded, scale)
    fixed = None if box is None else (int(box.height), int(box.width))
    facts = export.export_onnx(loaded, whole, output, fixed, threshold, overwrite)
    sides = fixed or export.SIDES
    if json:
        print_document({"file": str(output), "opset": export.OPSET, "input": [1, 3, *sides], **facts})
    elif not quiet:
        print_message(
            f"Wrote {output} ({output.stat().st_size / 1e6:.1f} MB): {facts['model']}, x{whole}, {facts['routing']}, "
            f"opset {export.OPSET}, input (1, 3, {sides[0]}, {sides[1]}). Licence: {facts['licence']}."
        )
