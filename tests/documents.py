"""Extracts commands, Python code and links from the documents, and writes the page of all options."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.main import get_command

from pcsr_cli.cli import main

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

INDENT, FENCE = "    ", "```"
NOT_RUN = re.compile(r"<!-- not run: (.*?) -->")


@dataclass(frozen=True)
class Command:
    """A command line. ``reason`` says why the test skips it; None runs it."""

    document: str
    line: str
    reason: str | None


def commands(document: Path) -> list[Command]:
    """The indented lines of a document outside code fences, in order, without their comments."""
    found, reason, fenced = [], None, False
    for line in document.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith(FENCE)
        if match := NOT_RUN.fullmatch(line.strip()):
            reason = match[1]
        elif line.startswith(INDENT) and not fenced:
            found.append(Command(document.name, re.split(r"\s#\s", line)[0].strip(), reason))
        elif line.strip():
            reason = None
    return found


def python(document: Path) -> list[str]:
    """The Python code blocks of a document."""
    return re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links(document: Path) -> list[str]:
    """The link targets of a document inside the repository, images included."""
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target]


def reference() -> str:
    """The content of ``docs/reference.md``: all commands with their arguments and options, as in ``--help``."""
    commands: dict[str, Any] = {}
    for name, command in get_command(main.app).commands.items():  # type: ignore[attr-defined]
        subcommands = getattr(command, "commands", {})
        commands |= {name: command, **{f"{name} {sub}": subcommands[sub] for sub in subcommands}}
    lines = [
        "# Commands and options",
        "",
        "`python -m tests.documents` writes this page from the help of the commands.",
    ]
    for name, command in commands.items():
        context = command.make_context(name, [], resilient_parsing=True)
        usage = " ".join(command.collect_usage_pieces(context))
        lines += ["", f"## pcsr {name}", "", command.help, "", f"Usage: `pcsr {name} {usage}`"]
        panels: dict[str | None, list[str]] = {None: []}
        for parameter in sorted(command.get_params(context), key=lambda parameter: parameter.param_type_name):
            if record := parameter.get_help_record(context):
                entries = panels.setdefault(getattr(parameter, "rich_help_panel", None), [])
                entries.append(f"- `{record[0]}`: {record[1]}")
        for panel, entries in panels.items():
            lines += ["", *([f"**{panel}**", ""] if panel else []), *entries]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "reference.md").write_text(reference(), encoding="utf-8")
