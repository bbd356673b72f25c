"""``pcsr models``: list, download, show and convert models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcsr_cli.cli import options
from pcsr_cli.cli.console import facts_table, print_document, print_message, printable, stdout_console
from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.images.files import exists, is_folder
from pcsr_cli.images.paths import check_source

if TYPE_CHECKING:
    from pcsr_cli.model.registry import Entry

app = typer.Typer(
    help="List, download, show and convert models.",
    epilog=options.examples("pcsr models  # all models", "pcsr models show builtin  # the details of one model"),
    rich_markup_mode="rich",
    invoke_without_command=True,
)

NAME = typer.Argument(
    metavar="NAME", help="Use a name in the list of `pcsr models`.", autocompletion=options.complete_model
)
REFERENCE = typer.Argument(
    metavar="NAME",
    help="Download a name in the list of `pcsr models`, or user/repo@revision; check the files of a folder.",
    autocompletion=options.complete_model,
)


@app.callback(invoke_without_command=True)
def list_models(context: typer.Context, registry: options.RegistryFile = None, json: options.Json = False) -> None:
    """List, download, show and convert models. Without a command, list the models."""
    if context.invoked_subcommand is not None:  # `pcsr models --json show NAME` equals `pcsr models show NAME --json`
        given = {"registry": registry, "json": json}
        context.default_map = {context.invoked_subcommand: {name: value for name, value in given.items() if value}}
        return
    print_list(registry, json)


@app.command("list", hidden=True)
def print_list(registry: options.RegistryFile = None, json: options.Json = False) -> None:
    """List the models, as `pcsr models` does."""
    entries = options.load_registry(registry).entries.values()
    rows = [_describe(entry) for entry in entries]
    if json:
        print_document(rows)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "scales", "parameters", "licence", "state", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[2].justify = "right"
    for row in rows:
        parameters = "" if row["parameters"] is None else f"{row['parameters']:,}"
        cells = (row["name"], row["scales"], parameters, row["licence"], row["state"])
        table.add_row(*(Text(printable(cell), overflow="fold") for cell in cells))
    stdout_console().print(table)


@app.command("fetch")
def fetch_model(
    name: Annotated[str, REFERENCE],
    registry: options.RegistryFile = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Download a model into the Hub cache and check the files."""
    options.check_output_mode(json, quiet)
    identity = options.load_model(name, "cpu", "fp32", registry, 4.0, quiet=json or quiet).identity
    if json:
        print_document({"name": identity.name, "revision": identity.revision, "sha256": identity.sha256})
    elif not quiet:
        print_message(f"{identity.name} is downloaded and complete: sha256 {identity.sha256}.")


@app.command("show")
def show_model(name: Annotated[str, NAME], registry: options.RegistryFile = None, json: options.Json = False) -> None:
    """Show the registry entry of a model."""
    known = options.load_registry(registry)
    if name == "auto":
        raise UsageError("auto takes the best available model.", f"Show one of these: {', '.join(known.auto)}.")
    entry = known.get(name)
    details = _describe(entry) | _details(entry)
    if json:
        print_document(details)
        return
    names = {"sources": "for sources", "source": "origin", "size": "bytes"}
    facts = ((names.get(key, key.replace("_", " ")), "-" if one is None else one) for key, one in details.items())
    stdout_console().print(facts_table(facts))


@app.command("convert")
def convert_model(
    source: Annotated[Path, typer.Argument(metavar="IN.pth", help="Convert this published checkpoint.")],
    folder: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Write the two files to this folder.")],
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert a published .pth to config.json and model.safetensors."""
    options.check_output_mode(json, quiet)
    check_source(source)
    from pcsr_cli.model.registry import DEFAULT_SCALES, Files

    names = Files()
    taken = [name for name in (names.config, names.weights) if exists(folder / name)]
    if taken and not overwrite:
        raise RefusedOutputError(f"{folder / taken[0]} already exists.", "Choose another name.", setting="overwrite")
    from pcsr_cli.model.checkpoint import build_model, read_pth, save_folder

    checkpoint = read_pth(source)
    network = build_model(checkpoint)
    save_folder(network, checkpoint.scales or DEFAULT_SCALES, folder, overwrite)
    if json:
        print_document({"folder": str(folder), "parameters": network.parameter_count()})
    elif not quiet:
        print_message(f"Wrote {folder / names.config} and {names.weights}: {network.parameter_count():,} parameters.")


def _describe(entry: "Entry") -> dict[str, Any]:
    fields = {"name": entry.name, "scales": str(entry.scales), "parameters": entry.parameters}
    return {**fields, "licence": entry.licence, "state": _state(entry)}


def _details(entry: "Entry") -> dict[str, Any]:
    from dataclasses import asdict

    location = entry.location
    where = {"folder": str(location)} if isinstance(location, Path) else asdict(location)
    return {
        **where,
        "backbone": f"{entry.spec.backbone.name}, {entry.spec.backbone.width} channels",
        "samplers": [list(hidden) for hidden in entry.spec.samplers],
        "classifier": list(entry.spec.classifier),
        "mean": list(entry.spec.mean),
        "std": list(entry.spec.std),
        "receptive_radius": entry.receptive_radius,
        "original": entry.original,
        "sources": entry.sources,
        "source": entry.source,
    }


def _state(entry: "Entry") -> str:
    if isinstance(entry.location, Path):
        return "here" if is_folder(entry.location) else "missing"
    from pcsr_cli.model.hub import is_cached

    return "cached" if is_cached(entry.location) else "not cached"
