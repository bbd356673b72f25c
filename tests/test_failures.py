"""The table of failures: its rows are used, called rightly, and each is shown by a test."""

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pcsr_cli import errors, failures
from pcsr_cli.errors import InputError, OutputError, PcsrError
from pcsr_cli.failures import Failure

PACKAGE = Path(failures.__file__).resolve().parent.parent
TESTS = Path(__file__).resolve().parent
SUBJECTS = [module.name for module in pkgutil.iter_modules(failures.__path__)]


def rows() -> dict[str, Failure]:
    """Every row by its name, such as ``pictures.NO_FILE``."""
    modules = {subject: importlib.import_module(f"pcsr_cli.failures.{subject}") for subject in SUBJECTS}
    return {
        f"{subject}.{name}": row
        for subject, module in modules.items()
        for name, row in vars(module).items()
        if isinstance(row, Failure)
    }


ROWS = rows()
each_row = pytest.mark.parametrize("name", ROWS)


def uses(folder: Path) -> Iterator[tuple[str, ast.AST, ast.Call | None]]:
    """Every mention of a row in a folder's files: its name, the node, and the call if it is called."""
    for file in folder.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id.removesuffix('_failures')}.{node.attr}"
                if name in ROWS:
                    yield name, node, calls.get(id(node))


IN_CODE = list(uses(PACKAGE))
IN_TESTS = {name for name, _, _ in uses(TESTS)}


KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, PcsrError)}


def sentences_of_its_own(file: Path) -> Iterator[int]:
    """The lines where a file makes an error without a row, or a new kind of error."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        made = [node.func] if isinstance(node, ast.Call) else node.bases if isinstance(node, ast.ClassDef) else []
        if any(isinstance(name, ast.Name) and name.id in KINDS for name in made):
            yield getattr(node, "lineno", 0)


class TestTheTable:
    def test_every_sentence_is_in_it(self) -> None:
        homes = {PACKAGE / "errors.py", *(PACKAGE / "failures").iterdir()}
        elsewhere = {
            f"{file.relative_to(PACKAGE)}:{line}"
            for file in set(PACKAGE.rglob("*.py")) - homes
            for line in sentences_of_its_own(file)
        }
        assert not elsewhere, "make it a row of pcsr_cli/failures/"

    def test_the_test_sees_what_has_none(self, tmp_path: Path) -> None:
        file = tmp_path / "own.py"
        file.write_text("class Odd(UsageError): ...\nraise InputError('No.') from error\nraise Other('No.')\n")
        assert list(sentences_of_its_own(file)) == [1, 2]


class TestARow:
    def test_becomes_its_error(self) -> None:
        row = Failure(InputError, "There is no file {path}.", "Check {path}.")
        error = row(path="a.png")
        assert isinstance(error, InputError)
        assert (error.sentence, error.next_step) == ("There is no file a.png.", "Check a.png.")

    @pytest.mark.parametrize(
        ("number", "told"), [(4.0, "4"), (-4, "-4"), (4.0000001, "4.0000001"), (0.5, "0.5"), (float("inf"), "inf")]
    )
    def test_tells_numbers_in_full(self, number: float, told: str) -> None:
        assert Failure(InputError, "It is {number}.", "")(number=number).sentence == f"It is {told}."

    def test_may_round_them(self) -> None:
        assert Failure(InputError, "It is {number:.1f}.", "")(number=4.04).sentence == "It is 4.0."

    def test_wants_exactly_its_facts(self) -> None:
        row = Failure(OutputError, "{path} is full.", "Free space.")
        with pytest.raises(AssertionError, match="path"):
            row(folder="a")


@each_row
def test_every_row_is_raised_somewhere(name: str) -> None:
    assert name in {used for used, _, _ in IN_CODE}


def test_every_call_gives_the_facts_its_row_names() -> None:
    for name, node, call in IN_CODE:
        if call is not None and all(keyword.arg for keyword in call.keywords):
            assert not call.args, f"{name}, line {getattr(node, 'lineno', 0)}"
            assert {keyword.arg for keyword in call.keywords} == ROWS[name].facts, name


@each_row
def test_every_row_is_named_by_a_test(name: str) -> None:
    assert name in IN_TESTS


@each_row
def test_every_sentence_is_one(name: str) -> None:
    row = ROWS[name]
    assert row.sentence.endswith((".", "}")) and "\n" not in row.sentence
    assert row.next_step.endswith((".", "}"))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_exit_code_of_every_kind_is_documented(kind: str) -> None:
    document = (PACKAGE.parent / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    (line,) = [line for line in document.splitlines() if line.startswith("| ") and f"`{kind}`" in line]
    assert line.startswith(f"| {getattr(errors, kind).exit_code} |")
