"""``pcsr plan``."""

from pathlib import Path

import pytest

from tests.command import Pcsr
from tests.images import levels, save


@pytest.fixture
def photograph(run_pcsr: Pcsr) -> Path:
    return save(run_pcsr.cwd / "in.png", levels(30, 50))


def test_a_plan_writes_nothing(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path) -> None:
    ran = run_pcsr("plan", "in.png", "out.tif", "--model", tiny_folder).succeeded()
    parts = ("50x30", "200x120 (x4)", "TIFF written while computing", "1 pass", "GFLOPs", "MiB", "GFLOP/s", "enough")
    for part in parts:
        assert part in ran.stdout
    assert all(len(line) <= 80 for line in ran.stdout.splitlines())
    assert run_pcsr.files() == ["in.png"]


def test_the_document_has_sizes_and_costs(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path) -> None:
    ran = run_pcsr("plan", "in.png", "--model", tiny_folder, "--scale", "3", "--adm", "--tile", "20", "--json")
    document = ran.succeeded().document
    (image,) = document["images"]
    assert (image["input_size"], image["output_size"]) == ([50, 30], [150, 90])
    assert (image["tiles"], image["strips"], image["passes"], image["format"]) == (6, 2, 2, None)
    light, heavy = image["gflops"]["paper"]
    assert 0 < light < heavy
    assert document["memory_bytes"] > 2**20 and min(document["seconds"]) > 0
    assert "disk" not in document


def test_a_folder_is_a_table_with_a_sum(run_pcsr: Pcsr, tiny_folder: Path) -> None:
    for number in range(3):
        save(run_pcsr.cwd / f"{number}.png", levels(10 + number, 12))
    ran = run_pcsr("plan", ".", "results", "--model", tiny_folder).succeeded()
    assert "48x40" in ran.stdout and "3 images" in ran.stdout
    document = run_pcsr("plan", ".", "results", "--model", tiny_folder, "--json").succeeded().document
    assert len(document["images"]) == 3
    assert document["disk"]["most_bytes"] == sum(image["most_bytes"] for image in document["images"])
    assert run_pcsr.files() == ["0.png", "1.png", "2.png"]


def test_one_image_that_fails_does_not_stop_a_plan(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path) -> None:
    (run_pcsr.cwd / "a.png").write_bytes(b"nonsense")
    save(run_pcsr.cwd / "wide.png", levels(1, 5000))
    ran = run_pcsr("plan", ".", "results", "--format", "webp", "--model", tiny_folder, "--json")
    assert ran.code == 1 and [image["source"] for image in ran.document["images"]] == ["in.png"]
    skipped = ran.document["skipped"]
    assert [each.split(" ")[0] for each in skipped] == ["a.png", "wide.png:"]
    assert ran.stderr.splitlines() == [f"pcsr: skipped: {each}" for each in skipped]
    photograph.unlink()
    (run_pcsr.cwd / "wide.png").unlink()
    run_pcsr("plan", "a.png", "a.webp").failed(1, "a.png is not an image")


def test_a_plan_refuses_what_upscale_refuses(run_pcsr: Pcsr, tiny_folder: Path, photograph: Path) -> None:
    run_pcsr("plan", "no.png").failed(1, "There is no file no.png.")
    run_pcsr("plan", "in.png", "--scale", "0.5").failed(2, "A scale of 0.5 does not enlarge.")
    save(run_pcsr.cwd / "wide.png", levels(1, 5000))
    run_pcsr("plan", "wide.png", "out.webp", "--model", tiny_folder).failed(2, "pixels per side, not")
