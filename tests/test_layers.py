"""The package has five layers. A module imports only from its own layer and from the layers below it."""

import ast
import graphlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "pcsr_cli"

# Lowest first.
LAYERS = (
    {"errors"},
    {"model", "images"},
    {"engine"},
    {"jobs", "evaluate", "training", "api", "__init__"},
    {"cli", "__main__"},
)
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
MAX_FUNCTION_LINES = 60


def module_name(file: Path) -> str:
    """``pcsr_cli/engine/tiles.py`` is ``engine.tiles``, ``pcsr_cli/engine/__init__.py`` is ``engine``."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_name(file): ast.parse(file.read_text(encoding="utf-8")) for file in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> Iterator[str]:
    """The modules of the package that a module imports, also inside functions and for types only."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "pcsr_cli":
                inside = name.removeprefix("pcsr_cli").removeprefix(".") or "__init__"
                yield inside if inside in MODULES else inside.rpartition(".")[0] or "__init__"


def room(module: str) -> str:
    """The package of a module, or the module itself at the top level."""
    return module.split(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_lead_downward(module: str) -> None:
    own = LAYER_OF[room(module)]
    assert not [name for name in imports(module) if LAYER_OF[room(name)] > own]


@pytest.mark.parametrize("name_of", [str, room], ids=["modules", "packages"])
def test_imports_form_no_cycle(name_of: Callable[[str], str]) -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        graph.setdefault(name_of(module), set()).update(name_of(name) for name in imports(module))
    for name, targets in graph.items():
        targets.discard(name)
    graphlib.TopologicalSorter(graph).prepare()


def test_module_names_are_unique() -> None:
    files = [file for file in PACKAGE.rglob("*.py") if file.parent.name != "cli" and file.stem != "__init__"]
    stems = Counter(file.stem for file in files)
    assert not [stem for stem, count in stems.items() if count > 1]


@pytest.mark.parametrize("module", MODULES)
def test_functions_are_short(module: str) -> None:
    functions = [node for node in ast.walk(MODULES[module]) if isinstance(node, ast.FunctionDef)]
    lines = {node.name: (node.end_lineno or 0) - node.body[0].lineno + 1 for node in functions}
    assert not {name: count for name, count in lines.items() if count > MAX_FUNCTION_LINES}
