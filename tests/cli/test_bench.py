"""``pcsr bench``."""

import csv
from pathlib import Path

import pytest

from pcsr_cli.errors import InputError, ModelError, OutputError, PcsrError, RefusedOutputError, UsageError
from tests.command import Pcsr
from tests.failing import tells
from tests.images import levels, save


@pytest.fixture
def folder(run_pcsr: Pcsr) -> Path:
    path = run_pcsr.cwd / "folder"
    path.mkdir()
    for name in ("a", "b"):
        save(path / f"{name}.png", levels(48, 56))
    return path


def test_the_document_the_table_and_the_saved_images(run_pcsr: Pcsr, tiny_folder: Path, folder: Path) -> None:
    ran = run_pcsr(
        "bench",
        folder,
        "--model",
        tiny_folder,
        "--json",
        "--csv",
        "rows.csv",
        "--save",
        "kept",
        "--methods",
        "adm,patch=4",
    ).succeeded()
    assert [row["method"] for row in ran.document["mean"]] == ["ADM", "patch 4"]
    assert len(ran.document["images"]) == 4 and ran.document["skipped"] == []
    with (run_pcsr.cwd / "rows.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["a.png", "a.png", "b.png", "b.png"]
    assert {"kept/a_adm.png", "kept/b_patch-4.png"} < set(run_pcsr.files())


@pytest.mark.parametrize("columns", ["80", "140"])
def test_the_table_fits_the_terminal(run_pcsr: Pcsr, tiny_folder: Path, folder: Path, columns: str) -> None:
    ran = run_pcsr("bench", folder, "--model", tiny_folder, "--luma", env={"COLUMNS": columns}).succeeded()
    assert "mean of 2" in ran.stdout and "all heavy" in ran.stdout and "PSNR" in ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= int(columns)


def test_a_damaged_image_is_skipped_and_the_exit_code_is_one(run_pcsr: Pcsr, tiny_folder: Path, folder: Path) -> None:
    (folder / "a.png").write_bytes(b"no picture")
    ran = run_pcsr("bench", folder, "--model", tiny_folder, "--json", "--methods", "light")
    assert ran.code == 1
    assert "a.png is not an image" in ran.stderr
    assert [row["image"] for row in ran.document["images"]] == ["b.png"]
    assert len(ran.document["skipped"]) == 1


@pytest.mark.parametrize(
    ("kind", "said", "arguments"),
    [
        (InputError, "contains no images.", ["empty"]),
        (InputError, "does not exist.", ["nowhere"]),
        (InputError, "with the name of an image in", ["folder", "--lr", "empty"]),
        (UsageError, "Unknown method", ["folder", "--methods", "magic"]),
        (UsageError, "Invalid budget", ["folder", "--budget", "lots"]),
        (UsageError, "cannot be met.", ["folder", "--budget", "1%"]),
        (UsageError, "was trained for", ["folder", "--scale", "2"]),
        (UsageError, "needs the weights of the original network", ["folder", "--methods", "original"]),
        (ModelError, "does not exist.", ["folder", "--original", "nowhere.pth"]),
        (OutputError, "cannot be written:", ["folder", "--csv", "nowhere/rows.csv"]),
        (OutputError, "Cannot create the folder", ["folder", "--save", "folder/a.png"]),
        (RefusedOutputError, "is also an input.", ["folder", "--csv", "folder/a.png", "--overwrite"]),
        (UsageError, "Invalid budget '8s'.", ["folder", "--budget", "8s"]),
        (InputError, "does not exist.", ["x" * 300]),
        (InputError, "is not a folder of LR images.", ["folder", "--lr", "x" * 300]),
        (ModelError, "does not exist.", ["folder", "--original", "x" * 300]),
        (OutputError, "cannot be written:", ["folder", "--csv", "x" * 300]),
    ],
)
def test_an_invalid_request_is_one_line(
    run_pcsr: Pcsr, tiny_folder: Path, folder: Path, kind: type[PcsrError], said: str, arguments: list[str]
) -> None:
    (run_pcsr.cwd / "empty").mkdir()
    ran = run_pcsr("bench", *arguments, "--model", tiny_folder).failed(kind.exit_code)
    assert tells(ran.stderr, said)


def test_two_images_of_one_name_are_refused(run_pcsr: Pcsr, tiny_folder: Path, folder: Path) -> None:
    other = run_pcsr.cwd / "other"
    other.mkdir()
    save(other / "a.jpg", levels(48, 56))
    ran = run_pcsr("bench", folder, other, "--methods", "bicubic", "--save", "kept", "--model", tiny_folder).failed(2)
    assert tells(ran.stderr, "Two results have the path kept/a_bicubic.png.")


def test_existing_files_need_overwrite(run_pcsr: Pcsr, tiny_folder: Path, folder: Path) -> None:
    for name in ("kept/a_bicubic.png", "rows.csv", "page.html"):
        there = run_pcsr.cwd / name
        there.parent.mkdir(exist_ok=True)
        there.write_text("mine")
        option = {"kept/a_bicubic.png": "--save", "rows.csv": "--csv", "page.html": "--report"}[name]
        asked = ["bench", "folder", "--methods", "bicubic", "--model", str(tiny_folder), option, name.split("/")[0]]
        assert tells(run_pcsr(*asked).failed(2).stderr, f"{name} already exists.")
        assert there.read_text() == "mine"
        run_pcsr(*asked, "--overwrite").succeeded()
        assert there.read_bytes() != b"mine"


def test_the_report_of_a_budget_states_the_difference(run_pcsr: Pcsr, tiny_folder: Path, folder: Path) -> None:
    arguments: list[str | Path] = ["upscale", folder / "a.png", "out.png", "--model", tiny_folder]
    budget = run_pcsr(*arguments, "--budget", "4%", "--json").succeeded().document["budget"]
    assert budget["spent"] == pytest.approx(budget["asked"], rel=0.01)
    run_pcsr(*arguments, "--overwrite", "--budget", "0.1%").failed(2, "cannot be met", "all light", "all heavy")
    run_pcsr(*arguments, "--overwrite", "--budget", "60%", "--adm").failed(2, "exclude each other")
