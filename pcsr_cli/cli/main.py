"""The ``pcsr`` command."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import pcsr_cli
from pcsr_cli.cli import failures, models, upscale


class _Commands(TyperGroup):
    """All commands, behind one place where errors become sentences and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.stderr.write("pcsr: interrupted; nothing was left behind.\n")
            raise SystemExit(failures.INTERRUPTED) from None
        except Exception as error:
            if type(error).__module__.startswith("typer"):
                raise
            raise SystemExit(failures.fail(error)) from None


app = typer.Typer(
    name="pcsr",
    cls=_Commands,
    help="Enlarge pictures with PCSR networks: compute goes where the picture needs it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("upscale")(upscale.command)
app.add_typer(models.app, name="models")


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"pcsr {pcsr_cli.__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit."""
    app()
