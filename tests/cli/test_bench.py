"""``pcsr bench``."""

import csv
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pcsr_cli.cli.bench import conclude
from pcsr_cli.errors import InputError, ModelError, OutputError, PcsrError, RefusedOutputError, UsageError
from pcsr_cli.evaluate.bench import Row
from tests.command import Pcsr, Ran
from tests.images import levels, save


@pytest.fixture
def bench(run_pcsr: Pcsr, tiny_folder: Path) -> Callable[..., Ran]:
    """Runs ``pcsr bench`` with the tiny model beside a folder of two images."""
    (run_pcsr.cwd / "folder").mkdir()
    for name in ("a", "b"):
        save(run_pcsr.cwd / "folder" / f"{name}.png", levels(48, 56))
    return partial(run_pcsr, "bench", "--model", tiny_folder)


def test_the_command_writes_a_document_a_table_and_images(run_pcsr: Pcsr, bench: Callable[..., Ran]) -> None:
    options = ["--csv", "rows.csv", "--save", "kept", "--methods", "adm,patch=4"]
    document = bench("folder", "--json", *options).succeeded().document
    assert [row["method"] for row in document["mean"]] == ["ADM", "patch 4"]
    assert len(document["images"]) == 4 and document["skipped"] == []
    with (run_pcsr.cwd / "rows.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["a.png", "a.png", "b.png", "b.png"]
    assert {"kept/a_adm.png", "kept/b_patch-4.png"} < set(run_pcsr.files())


def test_bicubic_is_measured_on_the_degraded_images(
    run_pcsr: Pcsr, bench: Callable[..., Ran], tiny_folder: Path
) -> None:
    clean, degraded = (
        bench("folder", "--methods", "bicubic", "--json", *options).succeeded().document
        for options in ((), ("--degrade", "jpeg=20"))
    )
    assert (clean["degrade"], degraded["degrade"]) == (None, "jpeg=20")
    assert degraded["mean"][0]["psnr"] < clean["mean"][0]["psnr"] - 0.1
    curve = run_pcsr(
        "sweep", "folder", "--model", tiny_folder, "--threshold", "0,1", "--degrade", "jpeg=20"
    ).succeeded()
    assert "against HR, LR degraded by jpeg=20" in " ".join(curve.stdout.split())


@pytest.mark.parametrize("columns", ["80", "140"])
def test_the_table_fits_the_terminal(bench: Callable[..., Ran], columns: str) -> None:
    ran = bench("folder", "--luma", env={"COLUMNS": columns}).succeeded()
    assert "mean of 2" in ran.stdout and "all heavy" in ran.stdout and "PSNR" in ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= int(columns)


def test_the_table_has_no_empty_columns_and_ends_in_one_sentence(bench: Callable[..., Ran]) -> None:
    whole = bench("folder").succeeded().stdout
    assert "patch" not in whole and "of orig." in whole and "GFLOPs" in whole and "Lanczos" in whole
    assert re.fullmatch(
        r"tiny, threshold 0.5: [+-]\d+\.\d\d dB over bicubic, .* dB over Lanczos\.", whole.splitlines()[-1]
    )
    filters = bench("folder/a.png", "--methods", "bicubic,lanczos").succeeded().stdout
    headings = next(line.split() for line in filters.splitlines() if line.startswith("image, method"))
    assert headings == ["image,", "method", "PSNR", "SSIM", "s", "MP/s"]
    assert " over " not in filters and "mean of" not in filters


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ({"k = 1": 30.0, "bicubic": 29.0, "Lanczos": 30.5}, "k = 1: +1.00 dB over bicubic, -0.50 dB over Lanczos."),
        ({"ADM": 30.0, "Lanczos": math.inf}, ""),
        ({"ADM": math.inf, "bicubic": 29.0}, ""),
        ({"bicubic": 29.0}, ""),
    ],
)
def test_the_sentence_states_only_known_gains(rows: dict[str, float], sentence: str) -> None:
    filters = {"bicubic", "Lanczos"}
    mean = [
        Row("mean", name, None, None if name in filters else 0.3, psnr, None, None, None, None, None, None)
        for name, psnr in rows.items()
    ]
    assert conclude(mean) == sentence


def test_a_damaged_image_is_skipped(run_pcsr: Pcsr, bench: Callable[..., Ran]) -> None:
    (run_pcsr.cwd / "folder" / "a.png").write_bytes(b"not an image")
    ran = bench("folder", "--json", "--methods", "light")
    assert ran.code == 1
    assert "a.png is not an image" in ran.stderr
    assert [row["image"] for row in ran.document["images"]] == ["b.png"]
    assert len(ran.document["skipped"]) == 1


@pytest.mark.parametrize(
    ("kind", "message", "arguments"),
    [
        (InputError, "contains no images.", ["empty"]),
        (InputError, "does not exist.", ["nowhere"]),
        (InputError, "is not a folder of LR images.", ["folder", "--lr", "nowhere"]),
        (InputError, "with the name of an image in", ["folder", "--lr", "empty"]),
        (UsageError, "Invalid degradation 'jpg=75'", ["folder", "--degrade", "jpg=75"]),
        (UsageError, "Invalid budget", ["folder", "--budget", "lots"]),
        (UsageError, "cannot be met.", ["folder", "--budget", "1%"]),
        (UsageError, "needs the weights of the original network", ["folder", "--methods", "original"]),
        (ModelError, "does not exist.", ["folder", "--original", "nowhere.pth"]),
        (ModelError, "does not exist.", ["folder", "--peer", "arm=nowhere.pth"]),
        (UsageError, "need their published weights", ["folder", "--methods", "classsr,arm=1"]),
        (UsageError, "Two peers have the name arm.", ["folder", "--peer", "arm=a,k=1", "--peer", "arm=a"]),
        (UsageError, "There is no peer arm to match.", ["folder", "--table", "paper", "--match", "arm"]),
        (UsageError, "--lr-float needs --table paper.", ["folder", "--lr-float"]),
        (UsageError, "--save does not work with --table paper.", ["folder", "--table", "paper", "--save", "kept"]),
        (InputError, "is smaller than a patch of 32 LR pixels.", ["folder/a.png", "--table", "paper"]),
        (OutputError, "cannot be written:", ["folder", "--csv", "nowhere/rows.csv"]),
        (OutputError, "Cannot make the folder", ["folder", "--save", "folder/a.png"]),
        (RefusedOutputError, "is also an input.", ["folder", "--csv", "folder/a.png", "--overwrite"]),
    ],
)
def test_an_invalid_request_is_refused(
    run_pcsr: Pcsr, bench: Callable[..., Ran], kind: type[PcsrError], message: str, arguments: list[str]
) -> None:
    (run_pcsr.cwd / "empty").mkdir()
    bench(*arguments).failed(kind.exit_code, message)


def test_the_papers_table_has_a_section_for_each_folder(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    for name in ("one", "two"):
        (run_pcsr.cwd / name).mkdir()
        save(run_pcsr.cwd / name / "a.png", levels(144, 132))
    arguments = ("bench", "one", "two", "--model", tiny_folder, "--table", "paper", "--methods", "k=1,bicubic")
    document = run_pcsr(*arguments, "--json", "--csv", "rows.csv").succeeded().document
    assert [folder["folder"] for folder in document["folders"]] == ["one", "two"] and document["lr"] == "8 bits"
    assert [row["method"] for row in document["folders"][0]["rows"]] == ["k = 1", "bicubic"]
    assert document["left_out"] == [
        "Left out without weights: the original network (--original PATH), ClassSR (--peer classsr=PATH), "
        "ARM (--peer arm=PATH)."
    ]
    with (run_pcsr.cwd / "rows.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["one", "one", "two", "two"]
    text = run_pcsr(*arguments, "--markdown", "--lr-float").succeeded().stdout
    assert "LR in floating point" in text and "## two, mean of 1" in text and "| k = 1 | " in text
    assert "| bicubic" not in text and "Left out, because they read 8-bit images: bicubic." in text
    table = run_pcsr(*arguments, env={"COLUMNS": "80"}).succeeded().stdout
    assert "two, mean of 1" in table and max(map(len, table.splitlines())) <= 80


def test_two_results_of_one_name_are_refused(run_pcsr: Pcsr, bench: Callable[..., Ran]) -> None:
    (run_pcsr.cwd / "other").mkdir()
    save(run_pcsr.cwd / "other" / "a.jpg", levels(48, 56))
    ran = bench("folder", "other", "--methods", "bicubic", "--save", "kept")
    ran.failed(2, "Two results have the path kept/a_bicubic.png.")


@pytest.mark.parametrize(
    ("option", "value", "file"),
    [("--save", "kept", "kept/a_bicubic.png"), ("--csv", "rows.csv", "rows.csv"), ("--report", "p.html", "p.html")],
)
def test_an_existing_file_needs_overwrite(
    run_pcsr: Pcsr, bench: Callable[..., Ran], option: str, value: str, file: str
) -> None:
    existing = run_pcsr.cwd / file
    existing.parent.mkdir(exist_ok=True)
    existing.write_text("mine")
    bench("folder", "--methods", "bicubic", option, value).failed(2, f"{file} already exists.")
    assert existing.read_text() == "mine"
    bench("folder", "--methods", "bicubic", option, value, "--overwrite").succeeded()
    assert existing.read_bytes() != b"mine"


def test_an_upscale_reports_its_budget_and_what_it_spent(
    run_pcsr: Pcsr, tiny_folder: Path, bench: Callable[..., Ran]
) -> None:
    arguments: list[str | Path] = ["upscale", "folder/a.png", "out.png", "--model", tiny_folder, "--overwrite"]
    budget = run_pcsr(*arguments, "--budget", "4%", "--json").succeeded().document["budget"]
    assert budget["asked"] * 0.99 < budget["spent"] <= budget["asked"]
    routing = run_pcsr(*arguments, "--budget", "200%", "--json").succeeded().document["routing"]
    assert routing["heavy_share"] == 1
    run_pcsr(*arguments, "--budget", "0.1%").failed(2, "cannot be met", "all light")
    run_pcsr(*arguments, "--budget", "60%", "--adm").failed(2, "exclude each other")
