"""The architecture, kept: who may import whom, and what every file looks like.

A file imports from its own layer and from those below it, and nothing goes in a circle. Imports within functions
count like any others.
"""

import ast
import graphlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pcsr_cli"

# Lowest first. A name stands for a module; one that ends in ".*" for a package and all that is in it.
LAYERS: dict[str, tuple[str, ...]] = {
    "errors": ("errors",),
    "model, images": ("model.*", "images.*"),
    "engine": ("engine.*",),
    "jobs, evaluate, training": ("jobs.*", "evaluate.*", "training.*", "api", "__init__"),
    "command": ("cli.*", "__main__"),
}

MAX_FILE_LINES = 550
MAX_FUNCTION_LINES = 60

FILES = sorted(PACKAGE.rglob("*.py"))
FILE_IDS = [str(file.relative_to(PACKAGE)) for file in FILES]
each_file = pytest.mark.parametrize("file", FILES, ids=FILE_IDS)


def module_name(file: Path) -> str:
    """Path to dotted name within the package; a package goes by its own name, the outermost by ``__init__``."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    if parts[-1] == "__init__" and len(parts) > 1:
        parts = parts[:-1]
    return ".".join(parts)


MODULES = {module_name(file): file for file in FILES}


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imported(file: Path) -> Iterator[str]:
    """The modules of the package that a file imports anywhere in it."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}:{node.lineno}: relative imports hide where they lead"
            # `from pcsr_cli.nets import carn` imports a module, `from pcsr_cli.nets import Backbone` a name of one.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if within_package(name) in MODULES else str(node.module) for name in names]
        else:
            continue
        yield from (within_package(name) for name in names if name.split(".")[0] == "pcsr_cli")


def within_package(name: str) -> str:
    return name.removeprefix("pcsr_cli").removeprefix(".") or "__init__"


def layer(module: str) -> int:
    """The number of a module's layer, lowest first."""
    for number, names in enumerate(LAYERS.values()):
        for name in names:
            package = name.removesuffix(".*")
            if module == name or (name.endswith(".*") and (module == package or module.startswith(package + "."))):
                return number
    raise AssertionError(f"pcsr_cli/{module.replace('.', '/')}.py belongs to no layer: add it to LAYERS in this file")


@each_file
def test_imports_lead_downward(file: Path) -> None:
    module = module_name(file)
    own = layer(module)
    upward = [name for name in imported(file) if layer(name) > own]
    assert not upward, f"{module} imports from above: {', '.join(upward)}"


def test_nothing_imports_in_a_circle() -> None:
    graph = {module: set(imported(file)) - {module} for module, file in MODULES.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


@each_file
def test_only_the_command_prints(file: Path) -> None:
    calls = [node for node in ast.walk(tree(file)) if isinstance(node, ast.Call)]
    lines = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    assert not lines or module_name(file).split(".")[0] == "cli", f"print in line {lines}"


@each_file
def test_files_are_short_enough_to_read(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


@each_file
def test_functions_are_short_enough_to_read(file: Path) -> None:
    assert not [f"{name}: {length} lines" for name, length in lengths(tree(file)) if length > MAX_FUNCTION_LINES]


def lengths(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Every function and method with its lines. Signatures do not count: a command lists its options there."""
    for node in functions(module):
        yield node.name, (node.end_lineno or 0) - node.body[0].lineno + 1


@each_file
def test_everything_public_is_annotated_and_explained(file: Path) -> None:
    assert ast.get_docstring(tree(file)), "the file does not say what it is for"
    for node in public(tree(file)):
        assert ast.get_docstring(node), f"{node.name} has no docstring"
        if not isinstance(node, ast.ClassDef):
            assert node.returns is not None, f"{node.name} does not say what it returns"
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [a.arg for a in arguments if a.annotation is None and a.arg not in {"self", "cls"}]
            assert not bare, f"{node.name} does not annotate {', '.join(bare)}"


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(node: ast.AST) -> Iterator[Function]:
    return (child for child in ast.walk(node) if isinstance(child, Function))


def public(node: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    """Public functions, classes and methods; a network's ``forward`` is described by its class."""
    for child in node.body:
        if isinstance(child, Function | ast.ClassDef) and not child.name.startswith("_") and child.name != "forward":
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public(child)
