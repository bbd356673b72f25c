"""Extracts commands, Python code and links from the documents."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

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
