"""``pcsr doctor``: check this installation."""

from typing import TYPE_CHECKING

from pcsr_cli.cli import options
from pcsr_cli.cli.console import print_document, printable, stdout_console
from pcsr_cli.errors import CheckError

if TYPE_CHECKING:
    from pcsr_cli.evaluate.doctor import Finding

EXAMPLES = options.examples("pcsr doctor  # what works, and how to fix what does not")
COLOURS = {"ok": "green", "missing": "yellow", "problem": "bold red"}


def command(registry: options.RegistryFile = None, json: options.Json = False) -> None:
    """Check versions, device, cache, models and formats, and print how to fix problems.

    missing: pcsr works without it. problem: pcsr needs it. The exit code is 1 if there is a problem, else 0.
    """
    from pcsr_cli.evaluate.doctor import examine
    from pcsr_cli.model.registry import own_registry_path

    own = registry or own_registry_path()
    found = []
    for finding in examine(own):
        found.append(finding)
        if not json:
            _show(finding)
    problems = sum(finding.state == "problem" for finding in found)
    if json:
        print_document({"healthy": not problems, "findings": [_document(finding) for finding in found]})
    if problems:
        raise CheckError(f"{problems} of {len(found)} checks failed.", "Follow the advice of each check.")


def _show(finding: "Finding") -> None:
    from rich.text import Text

    state = (f"{finding.state:<8}", COLOURS[finding.state])
    text = Text.assemble(state, (f"{finding.subject:<19} ", "bold"), printable(finding.message))
    console = stdout_console()
    console.print(text, soft_wrap=True)
    if finding.next_step:
        console.print(Text(f"{'':8}-> {printable(finding.next_step)}"), soft_wrap=True)


def _document(finding: "Finding") -> dict[str, object]:
    return {
        "subject": finding.subject,
        "state": finding.state,
        "message": printable(finding.message),
        "next_step": printable(finding.next_step),
        **finding.facts,
    }
