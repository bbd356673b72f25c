"""``pcsr compare``."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command import Pcsr
from tests.evaluate.html.test_page import embedded, tags
from tests.images import levels, save, save_deep


@pytest.fixture(autouse=True)
def pictures(run_pcsr: Pcsr) -> Path:
    """a.png, b.png at four times its size, and wide.png of another shape."""
    for name, size in {"a": (12, 15), "b": (48, 60), "wide": (12, 40)}.items():
        save(run_pcsr.cwd / f"{name}.png", levels(*size))
    return run_pcsr.cwd


def page_at(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_a_page_has_the_pictures_in_order(run_pcsr: Pcsr, pictures: Path) -> None:
    ran = run_pcsr("compare", "b.png", "a.png").succeeded()
    assert ran.stdout == "" and "Wrote b_compare.html" in ran.stderr
    text = page_at(pictures / "b_compare.html")
    (image,) = embedded(text)["images"]
    assert image["layers"] == [["0", "b.png"], ["1", "a.png, Lanczos"]] and image["size"] == [60, 48]
    assert "<title>2 pictures: b.png</title>" in text
    assert sorted(image["previews"][0]["layers"]) == ["0", "1"] and image["previews"][0]["difficulty"] is None
    assert "PSNR" not in text.partition("<script>")[0] and "pcsr compare b.png a.png" in text


def test_models_enlarge_the_first_picture(run_pcsr: Pcsr, pictures: Path, tiny_folder: Path) -> None:
    run_pcsr("upscale", "a.png", "r.png", "--model", tiny_folder).succeeded()
    options: list[str | Path] = ["--model", tiny_folder, "--model", "builtin", "-o", "p.htm", "--json"]
    document = run_pcsr("compare", "a.png", "r.png", *options).succeeded().document
    assert document["output"] == "p.htm" and document["size"] == [60, 48]
    assert [one["label"] for one in document["pictures"]] == ["a.png, Lanczos", "r.png", "tiny", "builtin"]
    assert "×4 by tiny, sha256 " in document["pictures"][2]["about"]
    layers = embedded(page_at(pictures / "p.htm"))["images"][0]["previews"][0]["layers"]
    assert layers["1"] == layers["2"] != layers["3"]


def test_a_sheet_is_an_image(run_pcsr: Pcsr, pictures: Path) -> None:
    for name in ("s.png", "s.jpg"):
        ran = run_pcsr("compare", "a.png", "b.png", "-o", name, "--quiet").succeeded()
        assert (ran.stdout, ran.stderr) == ("", "")
        with Image.open(pictures / name) as sheet:
            assert sheet.mode == "RGB" and sheet.width > 1200


def test_transparent_grey_and_deep_files_are_compared(run_pcsr: Pcsr, pictures: Path) -> None:
    save(pictures / "clear.png", levels(12, 15, 4) * np.array([1, 1, 1, 0], np.uint8))
    save(pictures / "grey.png", levels(12, 15, 1))
    save_deep(pictures / "deep.png", levels(12, 15).astype(np.uint16) * 257)
    names = ["a.png", "clear.png", "grey.png", "deep.png"]
    document = run_pcsr("compare", *names, "-o", "p.html", "--json").succeeded().document
    assert [one["label"] for one in document["pictures"]] == names and document["notes"] == []
    layers = embedded(page_at(pictures / "p.html"))["images"][0]["previews"][0]["layers"]
    assert layers["0"] == layers["3"]


def test_names_are_text_and_equal_names_are_paths(run_pcsr: Pcsr, pictures: Path) -> None:
    odd = "<b>&amp;'\"</script>.png".replace("/", "∕")
    save(pictures / odd, levels(12, 15))
    (pictures / "more").mkdir()
    save(pictures / "more" / "a.png", levels(12, 15))
    run_pcsr("compare", "a.png", "more/a.png", odd, "-o", "p.html").succeeded()
    text = page_at(pictures / "p.html")
    assert [label for _, label in embedded(text)["images"][0]["layers"]] == ["a.png", "more/a.png", odd]
    assert "b" not in {tag for tag, _ in tags(text)}


@pytest.mark.parametrize(
    ("code", "message", "arguments"),
    [
        (2, "A comparison needs two pictures, or one picture and a model.", ["a.png"]),
        (2, "a.png is given twice.", ["a.png", "./a.png"]),
        (2, "builtin is given twice.", ["a.png", "-m", "builtin", "-m", "builtin"]),
        (2, "--scale has no effect without a model.", ["a.png", "b.png", "--scale", "2"]),
        (2, "A scale of 0.5 does not enlarge.", ["a.png", "-m", "builtin", "--scale", "0.5"]),
        (2, "There is no model 'nothing'", ["a.png", "-m", "nothing"]),
        (1, "There is no file nowhere.png.", ["a.png", "nowhere.png"]),
        (1, "is a folder", ["a.png", "."]),
        (1, "wide.png is 40x12 and b.png is 60x48, which is another shape.", ["a.png", "wide.png", "b.png"]),
        (2, "Cannot write a comparison as 'p.txt'.", ["a.png", "b.png", "-o", "p.txt"]),
        (2, "taken.html already exists.", ["a.png", "b.png", "-o", "taken.html"]),
        (2, "is also an input.", ["a.png", "b.png", "-o", "b.png", "-y"]),
        (2, "exclude each other", ["a.png", "b.png", "--json", "--quiet"]),
    ],
)
def test_an_invalid_request_is_one_sentence(
    run_pcsr: Pcsr, pictures: Path, code: int, message: str, arguments: list[str]
) -> None:
    (pictures / "taken.html").write_text("mine")
    run_pcsr("compare", *arguments).failed(code, message)
    assert run_pcsr.files() == ["a.png", "b.png", "taken.html", "wide.png"]
    assert (pictures / "taken.html").read_text() == "mine"
