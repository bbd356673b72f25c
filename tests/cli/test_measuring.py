"""CSV files of the measuring commands."""

from dataclasses import dataclass
from pathlib import Path

from pcsr_cli.cli.measuring import write_rows
from pcsr_cli.errors import RefusedOutputError
from tests.failing import fails


@dataclass(frozen=True)
class Row:
    name: str
    psnr: float | None


def test_missing_values_are_empty_cells(tmp_path: Path) -> None:
    output = tmp_path / "rows.csv"
    write_rows(output, [Row("a, b", 30.5), Row("c", None)], replace=False)
    assert output.read_text().splitlines() == ["name,psnr", '"a, b",30.5', "c,"]


def test_a_file_created_meanwhile_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "rows.csv"
    output.write_text("mine")
    with fails(RefusedOutputError, f"{output} already exists."):
        write_rows(output, [Row("a", 30.5)], replace=False)
    assert output.read_text() == "mine"
