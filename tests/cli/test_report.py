"""``pcsr report``, and the pages of ``sweep`` and ``bench``."""

from pathlib import Path

import pytest

from tests.command import Pcsr
from tests.evaluate.html.test_page import embedded
from tests.failing import tells
from tests.images import levels, save


@pytest.fixture
def pictures(run_pcsr: Pcsr) -> Path:
    (run_pcsr.cwd / "folder").mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        save(run_pcsr.cwd / "folder" / name, levels(48, 60, seed=number))
    return run_pcsr.cwd / "folder"


def page_at(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_the_page_has_the_figures_of_sweep(run_pcsr: Pcsr, tiny_folder: Path, pictures: Path) -> None:
    grid = ["--threshold", "0:1:0.25", "--model", str(tiny_folder), "--json"]
    swept = run_pcsr("sweep", "folder", *grid).succeeded().document
    told = run_pcsr("report", "p.html", "folder", *grid).succeeded().document
    document = embedded(page_at(run_pcsr.cwd / "p.html"))
    for curve, picture, same in zip(swept["curves"], document["images"], told["curves"], strict=True):
        assert curve["points"] == picture["curve"]["points"] == same["points"]
    assert swept["mean"]["points"] == document["mean"]["points"] == told["mean"]["points"]
    assert told["report"] == "p.html"
    assert "pcsr report p.html folder --threshold 0:1:0.25" in page_at(run_pcsr.cwd / "p.html")


def test_sweep_writes_a_page(run_pcsr: Pcsr, tiny_folder: Path, pictures: Path) -> None:
    grid = ["--k", "-1:2:1", "--model", str(tiny_folder), "--json"]
    swept = run_pcsr("sweep", "folder", *grid, "--report", "p.html").succeeded().document
    picture = embedded(page_at(run_pcsr.cwd / "p.html"))["images"][1]
    assert swept["curves"][1]["points"] == picture["curve"]["points"]


def test_bench_writes_a_page_with_its_methods(run_pcsr: Pcsr, tiny_folder: Path, pictures: Path) -> None:
    asked = ["--methods", "adm,bicubic", "--model", str(tiny_folder), "--json"]
    rows = run_pcsr("bench", "folder", *asked, "--report", "p.html").succeeded().document["mean"]
    text = page_at(run_pcsr.cwd / "p.html")
    assert "Methods compared" in text
    for row in rows:
        assert f'<data value="{row["psnr"]}">{row["psnr"]:.3f}</data>' in text


def test_bench_skips_a_damaged_image_and_prints_it_once(run_pcsr: Pcsr, tiny_folder: Path, pictures: Path) -> None:
    (pictures / "c.png").write_bytes(b"no picture")
    ran = run_pcsr("bench", "folder", "--methods", "bicubic", "--model", tiny_folder, "--report", "p.html")
    assert ran.code == 1 and ran.stderr.count("skipped: ") == 1
    text = page_at(run_pcsr.cwd / "p.html")
    assert len(embedded(text)["images"]) == 2 and text.count("Skipped: folder/c.png is not an image") == 1


def test_a_damaged_image_is_skipped(run_pcsr: Pcsr, tiny_folder: Path, pictures: Path) -> None:
    (pictures / "c.png").write_bytes(b"no picture")
    ran = run_pcsr("report", "p.html", "folder", "--threshold", "0.5", "--model", tiny_folder, "--json")
    assert ran.code == 1 and "skipped: " in ran.stderr
    text = page_at(run_pcsr.cwd / "p.html")
    assert len(embedded(text)["images"]) == 2 and "Skipped: folder/c.png is not an image" in text
    assert [one["image"] for one in ran.document["skipped"]] == ["c.png"]


@pytest.mark.parametrize("command", [["report", "p.txt"], ["sweep", "--report", "p.txt"]], ids=" ".join)
def test_only_html_is_written(run_pcsr: Pcsr, tiny_folder: Path, pictures: Path, command: list[str]) -> None:
    ran = run_pcsr(*command, "folder", "--model", tiny_folder).failed(2)
    assert tells(ran.stderr, "Cannot write a report as 'p.txt'.")


def test_an_existing_page_needs_overwrite(run_pcsr: Pcsr, tiny_folder: Path, pictures: Path) -> None:
    (run_pcsr.cwd / "p.html").write_text("mine")
    run_pcsr("report", "p.html", "folder", "--model", tiny_folder).failed(2, "already exists")
    assert page_at(run_pcsr.cwd / "p.html") == "mine"


@pytest.mark.parametrize("command", [["sweep", "folder", "--threshold", "0.5"], ["bench", "folder"]], ids=" ".join)
def test_every_command_needs_overwrite_for_a_page(
    run_pcsr: Pcsr, tiny_folder: Path, pictures: Path, command: list[str]
) -> None:
    (run_pcsr.cwd / "p.html").write_text("mine")
    ran = run_pcsr(*command, "--report", "p.html", "--model", tiny_folder).failed(2)
    assert tells(ran.stderr, "p.html already exists.")


def test_a_name_that_is_too_long(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    ran = run_pcsr("report", "p.html", "x" * 300, "--model", tiny_folder).failed(1)
    assert tells(ran.stderr, f"{'x' * 300} does not exist.")


def test_too_fine_a_grid_is_refused(run_pcsr: Pcsr, tiny_folder: Path, pictures: Path) -> None:
    ran = run_pcsr("report", "p.html", "folder", "--threshold", "0:1:0.003", "--model", tiny_folder).failed(2)
    assert tells(ran.stderr, "A report holds at most")
