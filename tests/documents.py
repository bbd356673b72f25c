"""What the documents show: their commands, their Python and their links."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

INDENT, FENCE = "    ", "```"
NOT_RUN = re.compile(r"<!-- not run: (.*?) -->")


@dataclass(frozen=True)
class Command:
    """A line to type; ``reason`` says why a test does not, where a document says so right before it."""

    document: str
    line: str
    reason: str | None


def commands(document: Path) -> list[Command]:
    """The command lines of a document, in order: all indented ones outside of fences, without their comments."""
    found, reason, fenced = [], None, False
    for line in document.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith(FENCE)
        if told := NOT_RUN.fullmatch(line.strip()):
            reason = told[1]
        elif line.startswith(INDENT) and not fenced:
            found.append(Command(document.name, re.split(r"\s#\s", line)[0].strip(), reason))
        elif line.strip():
            reason = None
    return found


def python(document: Path) -> list[str]:
    """The Python of a document."""
    return re.findall(r"^```python\n(.*?)^```", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links(document: Path) -> list[str]:
    """Where a document leads within the repository, pictures included."""
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target]
