"""``pcsr config``: the user's defaults. An option overrides an environment variable, which overrides this file."""

import json as encoding
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from pcsr_cli.cli import options
from pcsr_cli.cli.console import facts_table, print_document, print_message, stdout_console
from pcsr_cli.errors import DeviceError, HubError, ModelError, PcsrError, UnknownModelError, UsageError
from pcsr_cli.images.files import atomic_write, exists, make_folder, read_text, reason

Default = str | int | float
Name = Literal["model", "scale", "device", "threads", "precision"]

OF_MEASUREMENTS = ("model", "device", "threads")
"""The settings that also apply to the commands that measure."""

MEASUREMENTS = ("bench", "sweep", "report", "verify")
COMMANDS = ("upscale", "plan", "train", *MEASUREMENTS)

app = typer.Typer(
    help="Show, set and unset the defaults of commands.",
    epilog=options.examples("pcsr config  # the defaults", "pcsr config set model builtin  # never download a model"),
    rich_markup_mode="rich",
    invoke_without_command=True,
)


def config_path() -> Path | None:
    """Return the path of the user's file: PCSR_CONFIG, or ``pcsr/config.toml`` in the folder for configurations.

    Returns None if there is no such folder."""
    if named := os.environ.get("PCSR_CONFIG"):
        return Path(named)
    from platformdirs import user_config_path

    try:
        return user_config_path("pcsr") / "config.toml"
    except RuntimeError:  # a user without a home folder, as in a container
        return None


def read_config(path: Path | None) -> dict[str, Default]:
    """Return the settings of a file, which are none if the file does not exist.

    Raises UsageError for a file that cannot be read, or that has unknown keys or invalid values."""
    if path is None or not exists(path):
        return {}
    try:
        return parse_config(read_text(path), f"The config {path}")
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read the config {path}: {reason(error)}.", "Correct or remove the file.") from error


def parse_config(text: str, origin: str, step: str = "Correct or remove the file.") -> dict[str, Default]:
    """Return the settings of a text in TOML. ``origin`` and ``step`` are for error messages. Raises UsageError."""
    from msgspec import Meta

    from pcsr_cli.engine.rules import check_device_name
    from pcsr_cli.model.spec import MAX_REQUESTED_SCALE, Table, convert

    class Config(Table, frozen=True):
        model: Annotated[str, Meta(min_length=1)] = "auto"
        scale: Annotated[float, Meta(ge=1, le=MAX_REQUESTED_SCALE)] = 4.0
        device: str = "auto"
        threads: Annotated[int, Meta(ge=1, le=10_000)] = 1
        precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"

    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{origin} is not valid TOML: {reason(error)}.", step) from error
    config = convert(table, Config, origin, UsageError, step)
    try:
        check_device_name(config.device)
    except DeviceError as error:
        raise error.within(origin) from error
    return {name: getattr(config, name) for name in table}


def defaults_of_commands() -> dict[str, Any]:
    """Return the settings of the user's file for each command that they apply to. Raises UsageError."""
    settings = read_config(config_path())
    measuring = {name: value for name, value in settings.items() if name in OF_MEASUREMENTS}
    training = {name: value for name, value in settings.items() if name == "device"}
    return {"upscale": settings, "plan": settings, "train": training} | dict.fromkeys(MEASUREMENTS, measuring)


class Command(TyperCommand):
    """A command. If an error is about a default, the error names the source of the default."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (UnknownModelError, ModelError, HubError) as error:
            raise _with_origin(error, ctx, "model") from error
        except DeviceError as error:
            raise _with_origin(error, ctx, error.setting) from error


def _with_origin(error: PcsrError, context: Any, name: str) -> PcsrError:
    source = getattr(context.get_parameter_source(name), "name", "")
    places = {"ENVIRONMENT": "PCSR_MODEL", "DEFAULT_MAP": f"The config {config_path()}"}
    if source not in places:
        return error
    step = f"{error.next_step} {places[source]} sets the {name}."
    return type(error)(error.sentence, step.strip(), setting=error.setting)


@app.callback(invoke_without_command=True)
def show(context: typer.Context, json: options.Json = False) -> None:
    """Show the file and its defaults. The environment variable PCSR_MODEL overrides the model of the file."""
    if context.invoked_subcommand is not None:
        return
    path = config_path()
    settings = read_config(path)
    if json:
        print_document({"file": None if path is None else str(path), "settings": settings})
        return
    if model := os.environ.get("PCSR_MODEL"):
        settings["model"] = f"{model} (PCSR_MODEL)"
    missing = "" if path is not None and exists(path) else " (does not exist)"
    stdout_console().print(facts_table([("file", f"{path}{missing}"), *settings.items()]))


@app.command("set")
def set_default(
    name: Annotated[Name, typer.Argument(metavar="NAME", help="Set model, scale, device, threads or precision.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Use this value if the option is not given.")],
) -> None:
    """Set a default."""
    parsed: Default = value
    if name == "scale":
        parsed = options.parse_scale(value)
    elif name == "threads" and value.isdecimal():
        parsed = int(value)
    elif name == "model":
        from pcsr_cli.model.registry import check_reference

        known = options.load_registry(None)
        check_reference(value, known)
        if value not in known.entries and exists(Path(value)):
            parsed = str(Path(value).absolute())
    path = _change(name, parsed)
    print_message(f"{name} is {parsed} in {path}.")


@app.command("unset")
def unset_default(
    name: Annotated[Name, typer.Argument(metavar="NAME", help="Remove this default from the file.")],
) -> None:
    """Remove a default."""
    print_message(f"{name} has no default in {_change(name, None)}.")


def _change(name: str, value: Default | None) -> Path:
    """Set a value in the user's file, or remove the value if it is None. The other lines stay as they are. Raises
    UsageError, OutputError."""
    path = config_path()
    if path is None:
        raise UsageError("There is no folder for a config.", "Set PCSR_CONFIG to the path of a file.")
    settings = read_config(path)
    lines = read_text(path).splitlines() if exists(path) else []
    kept = [line for line in lines if not re.match(rf"\s*[\"']?{name}[\"']?\s*=", line)]
    added = [] if value is None else [f"{name} = {encoding.dumps(value, ensure_ascii=False)}"]
    text = "".join(f"{line}\n" for line in kept + added)
    wanted = {key: one for key, one in settings.items() if key != name} | ({} if value is None else {name: value})
    if parse_config(text, f"{name} = {value}", "Use another value.") != wanted:
        raise UsageError(f"pcsr cannot change {name} in the config {path}.", "Edit the file.")
    make_folder(path.parent)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
