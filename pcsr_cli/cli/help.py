"""Help in groups, as plain text: commands by what they are for, options by what they are about, and examples."""

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

from pcsr_cli.cli.examples import EXAMPLES

ENLARGE = "Enlarge"
MEASURE = "Measure and look"
CHECK = "Check"
MODELS = "Models"

EVERYTHING_ELSE = "Options"


class GroupedCommand(TyperCommand):
    """A command whose help has its options in groups, and examples."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, then options, each under the heading it names."""
        _write_parameters(self.get_params(ctx), ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples."""
        _write_examples(ctx.command_path, formatter)


class GroupedCommands(TyperGroup):
    """Commands whose help has them in groups, with whole sentences, and examples."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Commands, then options, each under the heading it names."""
        self.format_commands(ctx, formatter)
        _write_parameters(self.get_params(ctx), ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Commands with the first sentence of what they say of themselves."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        _write_groups(
            (
                (getattr(command, "rich_help_panel", None) or "Commands", (name, _first_sentence(command.help)))
                for name, command in commands
                if command is not None and not command.hidden
            ),
            formatter,
        )

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples."""
        _write_examples(ctx.command_path, formatter)


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").partition("\n\n")[0].split())


def _write_parameters(parameters: Iterable[Any], ctx: Any, formatter: Any) -> None:
    records = [(parameter, parameter.get_help_record(ctx)) for parameter in parameters]
    _write_groups(((_heading(parameter), record) for parameter, record in records if record is not None), formatter)


def _heading(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    return getattr(parameter, "rich_help_panel", None) or EVERYTHING_ELSE


def _write_groups(headed: Iterable[tuple[str, tuple[str, str]]], formatter: Any) -> None:
    """Definition lists, in the order in which their headings first come; what has none comes last."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for heading, record in headed:
        groups.setdefault(heading, []).append(record)
    for heading in sorted(groups, key=lambda name: name == EVERYTHING_ELSE):
        with formatter.section(heading):
            formatter.write_dl(groups[heading])


def _write_examples(path: str, formatter: Any) -> None:
    examples = EXAMPLES.get(path, ())
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{'':{formatter.current_indent}}{example.command}\n")
                formatter.write(f"{'':{formatter.current_indent + 4}}{example.said}\n")
