"""``pcsr report``, and the pages of ``sweep`` and ``bench``."""

from pathlib import Path

import pytest

from tests.command import Pcsr
from tests.evaluate.html.test_page import embedded
from tests.images import levels, save


@pytest.fixture
def images(run_pcsr: Pcsr) -> Path:
    (run_pcsr.cwd / "folder").mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        save(run_pcsr.cwd / "folder" / name, levels(48, 60, seed=number))
    return run_pcsr.cwd / "folder"


def page_at(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_the_page_has_the_figures_of_sweep(run_pcsr: Pcsr, tiny_folder: Path, images: Path) -> None:
    grid = ["--threshold", "0:1:0.25", "--model", str(tiny_folder), "--json"]
    swept = run_pcsr("sweep", "folder", *grid).succeeded().document
    reported = run_pcsr("report", "folder", "p.html", *grid).succeeded().document
    document = embedded(page_at(run_pcsr.cwd / "p.html"))
    for curve, image, same in zip(swept["curves"], document["images"], reported["curves"], strict=True):
        assert curve["points"] == image["curve"]["points"] == same["points"]
    assert swept["mean"]["points"] == document["mean"]["points"] == reported["mean"]["points"]
    assert reported["report"] == "p.html"
    assert "pcsr report folder p.html --threshold 0:1:0.25" in page_at(run_pcsr.cwd / "p.html")


def test_sweep_writes_a_page(run_pcsr: Pcsr, tiny_folder: Path, images: Path) -> None:
    grid = ["--k", "-1:2:1", "--model", str(tiny_folder), "--json"]
    swept = run_pcsr("sweep", "folder", *grid, "--report", "p.html").succeeded().document
    image = embedded(page_at(run_pcsr.cwd / "p.html"))["images"][1]
    assert swept["curves"][1]["points"] == image["curve"]["points"]


def test_bench_writes_a_page_with_its_methods(run_pcsr: Pcsr, tiny_folder: Path, images: Path) -> None:
    options = ["--methods", "adm,bicubic", "--model", str(tiny_folder), "--json"]
    rows = run_pcsr("bench", "folder", *options, "--report", "p.html").succeeded().document["mean"]
    text = page_at(run_pcsr.cwd / "p.html")
    assert "Methods compared" in text
    for row in rows:
        assert f'<data value="{row["psnr"]}">{row["psnr"]:.3f}</data>' in text


@pytest.mark.parametrize(
    "command",
    [
        ["report", "p.html", "--threshold", "0.5"],
        ["bench", "--methods", "bicubic", "--report", "p.html"],
    ],
    ids=["report", "bench"],
)
def test_a_damaged_image_is_skipped(run_pcsr: Pcsr, tiny_folder: Path, images: Path, command: list[str]) -> None:
    (images / "c.png").write_bytes(b"not an image")
    ran = run_pcsr(*command, "folder", "--model", tiny_folder, "--json")
    assert ran.code == 1 and ran.stderr.count("skipped: ") == 1
    text = page_at(run_pcsr.cwd / "p.html")
    assert len(embedded(text)["images"]) == 2 and text.count("Skipped: folder/c.png is not an image") == 1
    assert [skipped["image"] for skipped in ran.document["skipped"]] == ["c.png"]


@pytest.mark.parametrize("command", [["report", "p.txt"], ["sweep", "--report", "p.txt"]], ids=" ".join)
def test_a_report_is_written_only_as_html(run_pcsr: Pcsr, tiny_folder: Path, images: Path, command: list[str]) -> None:
    run_pcsr(*command, "folder", "--model", tiny_folder).failed(2, "Cannot write a report as 'p.txt'.")


@pytest.mark.parametrize(
    "command",
    [["report", "p.html"], ["sweep", "--threshold", "0.5", "--report", "p.html"], ["bench", "--report", "p.html"]],
    ids=["report", "sweep", "bench"],
)
def test_an_existing_page_needs_overwrite(run_pcsr: Pcsr, tiny_folder: Path, images: Path, command: list[str]) -> None:
    (run_pcsr.cwd / "p.html").write_text("mine")
    run_pcsr(*command, "folder", "--model", tiny_folder).failed(2, "p.html already exists.")
    assert page_at(run_pcsr.cwd / "p.html") == "mine"


def test_a_grid_with_too_many_points_is_refused(run_pcsr: Pcsr, tiny_folder: Path, images: Path) -> None:
    for paths in (["p.html", "folder"], ["folder", "p.html"]):
        ran = run_pcsr("report", *paths, "--threshold", "0:1:0.003", "--model", tiny_folder)
        ran.failed(2, "A report holds at most")
