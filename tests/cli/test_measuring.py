"""CSV files of the measuring commands."""

from dataclasses import dataclass
from pathlib import Path

from pcsr_cli.cli.measuring import write_rows


@dataclass(frozen=True)
class Row:
    name: str
    psnr: float | None


def test_missing_values_are_empty_cells(tmp_path: Path) -> None:
    output = tmp_path / "rows.csv"
    write_rows(output, [Row("a, b", 30.5), Row("c", None)], replace=False)
    assert output.read_text().splitlines() == ["name,psnr", '"a, b",30.5', "c,"]
