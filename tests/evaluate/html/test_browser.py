"""The page in Chromium: at every cut it shows the figures that ``pcsr sweep`` prints."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from pcsr_cli.evaluate.compare import Picture
from pcsr_cli.evaluate.html.page import compare_page, write_page
from tests.command import ROOT, ForkServer, Pcsr
from tests.evaluate.html.browsing import OpenPage, chromium, opened
from tests.images import levels

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SAME = ("cut", "heavy_share", "psnr", "ssim", "paper", "executed")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def made(browser: "Browser", fork_server: ForkServer, tiny_folder: Path, tmp_path_factory: Any) -> tuple[Path, Any]:
    """A page with three images, and the document of ``sweep --json``."""
    cwd, scratch = tmp_path_factory.mktemp("page"), tmp_path_factory.mktemp("scratch")
    (cwd / "folder").mkdir()
    with Image.open(ROOT / "examples" / "chelsea.png") as photograph:
        for name, box in {"eye": (120, 60, 200, 120), "nose": (200, 180, 264, 240), "wall": (360, 20, 424, 84)}.items():
            photograph.convert("RGB").crop(box).save(cwd / "folder" / f"{name}.png")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    run = Pcsr(fork_server, cwd, scratch, env)
    grid = ["--threshold", "0:1:0.1", "--model", str(tiny_folder)]
    swept = run("sweep", "folder", *grid, "--json").succeeded().document
    run("report", "page.html", "folder", *grid).succeeded()
    return cwd / "page.html", swept


@pytest.fixture(scope="module")
def window(browser: "Browser", made: tuple[Path, Any]) -> Iterator[OpenPage]:
    with opened(browser, made[0]) as shown:
        yield shown


@pytest.fixture
def opened_page(window: OpenPage, made: tuple[Path, Any]) -> Iterator[OpenPage]:
    """The reloaded page. At the end of the test it has no errors and no requests."""
    window.requests.clear()
    window.open(made[0])
    yield window
    assert window.errors == []
    assert [url for url in window.requests if not url.startswith("data:")] == [made[0].as_uri()]


def assert_shows(opened_page: OpenPage, swept: Any, index: int) -> None:
    """All panels and the table show one point of the sweep."""
    curves = {"mean": swept["mean"], **{str(number): curve for number, curve in enumerate(swept["curves"])}}
    for which, curve in curves.items():
        point, shown, printed = curve["points"][index], opened_page.values(which), opened_page.texts(which)
        assert {key: float(shown[key]) for key in SAME} == {key: point[key] for key in SAME}
        assert printed["psnr"] == f"{point['psnr']:.3f}" and printed["cut"] == f"{point['cut']:.4f}"
        assert printed["heavy_share"] == f"{point['heavy_share']:.1%}" and printed["ssim"] == f"{point['ssim']:.4f}"
        assert printed["paper"] == f"{point['paper']:,.2f}" and printed["executed"] == f"{point['executed']:,.2f}"
        row = f'#images [data-image="{which}"] [data-key="psnr"] data'
        assert float(str(opened_page.page.get_attribute(row, "value"))) == point["psnr"]


def dot(opened_page: OpenPage, which: str, index: int) -> tuple[float, float]:
    """Return the position of a point of a curve in the window."""
    opened_page.page.locator(f'[data-curve="{which}"] svg').scroll_into_view_if_needed()
    box = opened_page.page.locator(f'[data-curve="{which}"] circle.dot').nth(index).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def show_map(opened_page: OpenPage, style: str) -> None:
    opened_page.page.locator("article .map-style").first.select_option(style)


def heavy_in_map(opened_page: OpenPage) -> float:
    opacity = opened_page.pixels("map")[3::4]
    return sum(value > 0 for value in opacity) / len(opacity)


@pytest.mark.parametrize("which", ["0", "mean"])
def test_dragging_a_handle_changes_the_cut_of_the_whole_page(
    opened_page: OpenPage, made: tuple[Path, Any], which: str
) -> None:
    swept = made[1]
    assert_shows(opened_page, swept, 5)
    for index in (8, 2):
        target = dot(opened_page, which, index)
        opened_page.drag(opened_page.centre(f'[data-curve="{which}"] .grip'), target)
        assert_shows(opened_page, swept, index)


def test_the_map_shows_the_heavy_pixels_at_the_cut(opened_page: OpenPage, made: tuple[Path, Any]) -> None:
    points = made[1]["curves"][0]["points"]
    assert heavy_in_map(opened_page) == 0, "the page opens without the map"
    show_map(opened_page, "heavy")
    for index in (3, 7):
        opened_page.drag(opened_page.centre('[data-curve="0"] .grip'), dot(opened_page, "0", index))
        opened_page.page.wait_for_selector(f'article[data-image="0"] .stage[data-cut="{index}"]')
        assert heavy_in_map(opened_page) == points[index]["heavy_share"]


def test_keys_move_the_handle(opened_page: OpenPage, made: tuple[Path, Any]) -> None:
    handle = opened_page.page.locator('[data-curve="1"] .handle')
    handle.focus()
    for key, index in (("ArrowRight", 4), ("ArrowUp", 3), ("ArrowLeft", 4), ("PageDown", 9), ("Home", 10), ("End", 0)):
        opened_page.page.keyboard.press(key)
        assert_shows(opened_page, made[1], index)
    point = made[1]["curves"][1]["points"][0]
    assert float(str(handle.get_attribute("aria-valuenow"))) == point["paper"]
    assert f"{point['psnr']:.3f} dB" in str(handle.get_attribute("aria-valuetext"))
    assert opened_page.style('[data-curve="1"] .handle .ring', "stroke") != "none", "the focus must be visible"


def test_both_counts_of_gflops_have_an_axis(opened_page: OpenPage, made: tuple[Path, Any]) -> None:
    opened_page.page.locator('[data-curve="0"] input[value="executed"]').check()
    assert opened_page.page.locator('[data-curve="2"] input[value="executed"]').is_checked()
    opened_page.drag(opened_page.centre('[data-curve="0"] .grip'), dot(opened_page, "0", 7))
    assert_shows(opened_page, made[1], 7)
    point = made[1]["curves"][0]["points"][7]
    now = opened_page.page.get_attribute('[data-curve="0"] .handle', "aria-valuenow")
    assert float(str(now)) == point["executed"]


def test_the_mouse_and_keys_move_the_divider(opened_page: OpenPage) -> None:
    stage = opened_page.page.locator("article .stage").first.bounding_box()
    assert stage is not None
    start = opened_page.centre("article .divider")
    opened_page.drag(start, (stage["x"] + stage["width"] * 0.25, start[1] + 30))
    assert opened_page.page.get_attribute("article .divider", "aria-valuenow") == "25"
    assert opened_page.style("article .side.left", "--split").startswith("25")
    opened_page.page.locator("article .divider").first.focus()
    for key, at in (("ArrowRight", "27"), ("PageUp", "37"), ("ArrowLeft", "35"), ("End", "100"), ("Home", "0")):
        opened_page.page.keyboard.press(key)
        assert opened_page.page.get_attribute("article .divider", "aria-valuenow") == at
    assert opened_page.style("article .side.left", "--split") == "0%"


def test_both_sides_show_any_layer(opened_page: OpenPage) -> None:
    left, right = (opened_page.page.locator(f"article .{side}-layer").first for side in ("left", "right"))
    names = left.locator("option").evaluate_all("options => options.map((option) => option.value)")
    assert names == ["bicubic", "lanczos", "pcsr", "light", "heavy", "hr"]
    assert opened_page.pixels("left") != opened_page.pixels("right")
    for name in names:
        left.select_option(name)
        right.select_option(name)
        assert opened_page.pixels("left") == opened_page.pixels("right")
    assert opened_page.page.locator("article .tag.left").first.text_content() == "HR"


def test_pcsr_combines_light_and_heavy_by_the_map(opened_page: OpenPage) -> None:
    layers = {}
    for name in ("light", "heavy", "pcsr"):
        opened_page.page.locator("article .right-layer").first.select_option(name)
        layers[name] = opened_page.pixels("right")
    show_map(opened_page, "heavy")
    light, heavy, pcsr = (memoryview(layers[name]).cast("I") for name in ("light", "heavy", "pcsr"))
    expected = [heavy[at] if mark else light[at] for at, mark in enumerate(opened_page.pixels("map")[3::4])]
    assert pcsr.tolist() == expected


def test_the_map_is_off_at_first_and_has_an_opacity_and_two_styles(opened_page: OpenPage) -> None:
    fade = opened_page.page.locator("article .map-fade").first
    assert not fade.is_visible()
    show_map(opened_page, "heavy")
    fade.focus()
    opened_page.page.keyboard.press("Home")
    assert opened_page.style("article .side.map", "opacity") == "0"
    opened_page.page.keyboard.press("End")
    assert opened_page.style("article .side.map", "opacity") == "1"
    scale = opened_page.page.locator("article .scale").first
    assert not scale.is_visible()
    show_map(opened_page, "difficulty")
    assert scale.is_visible()
    assert len(set(memoryview(opened_page.pixels("map")).cast("I"))) > 20
    show_map(opened_page, "off")
    assert set(opened_page.pixels("map")) == {0} and not fade.is_visible()


def test_a_stage_fills_the_screen(opened_page: OpenPage) -> None:
    def size() -> tuple[float, float]:
        box = opened_page.page.locator("article .stage").first.bounding_box()
        assert box is not None
        return box["width"], box["height"]

    before = size()
    button = opened_page.page.locator("article .full-screen").first
    button.click()
    opened_page.page.wait_for_selector('article .full-screen[aria-pressed="true"]')
    screen = opened_page.page.evaluate("[innerWidth, innerHeight]")
    assert size()[0] > before[0] and size()[1] > 0.8 * screen[1]
    assert opened_page.page.evaluate("document.fullscreenElement.scrollHeight") <= screen[1], "the controls must fit"
    button.click()
    opened_page.page.wait_for_selector('article .full-screen[aria-pressed="false"]')
    assert size() == before


def test_a_saved_crop_has_both_sides(opened_page: OpenPage, tmp_path: Path) -> None:
    def save() -> np.ndarray:
        with opened_page.page.expect_download() as waiting:
            opened_page.page.locator("article .save-crop").first.click()
        assert waiting.value.suggested_filename == "eye bicubic - PCSR.png"
        waiting.value.save_as(tmp_path / "crop.png")
        with Image.open(tmp_path / "crop.png") as saved:
            return np.asarray(saved.convert("RGB"))

    def shown(side: str) -> np.ndarray:
        return np.frombuffer(opened_page.pixels(side), np.uint8).reshape(60, 80, 4)[..., :3]

    opened_page.page.locator("article .zoom-real").first.click()
    whole = save()
    factor = (whole.shape[1] - 8) // 2 // 80
    assert whole.shape == (28 + 60 * factor, 2 * 80 * factor + 8, 3)
    for left, side in ((0, "left"), (80 * factor + 8, "right")):
        saved = whole[28:, left : left + 80 * factor][factor // 2 :: factor, factor // 2 :: factor]
        assert np.array_equal(saved, shown(side))
    for _ in range(3):
        opened_page.page.locator("article .zoom-in").first.click()
    area = opened_page.page.evaluate("visibleArea(stages[0])")
    part = save()[28:]
    rows, columns = (
        (start + (np.arange(length) + 0.5) / area["factor"]).astype(int)
        for start, length in ((area["top"], part.shape[0]), (area["left"], (part.shape[1] - 8) // 2))
    )
    assert part.shape[0] < whole.shape[0] * 3 and rows[0] > 0 and rows[-1] < 59
    differs = (part[:, : len(columns)] != shown("left")[np.ix_(rows, columns)]).any(axis=2)
    assert differs.mean() < 0.05, "only pixels on the border of two source pixels may differ"


def test_all_layers_zoom_and_move_together(opened_page: OpenPage) -> None:
    def transforms() -> list[str]:
        found: list[str] = opened_page.page.eval_on_selector_all(
            'article[data-image="0"] .world', "worlds => worlds.map((world) => getComputedStyle(world).transform)"
        )
        assert len(found) == 3 and len(set(found)) == 1
        return found

    before = transforms()
    x, y = opened_page.centre("article .stage")
    opened_page.page.mouse.move(x + 100, y)
    opened_page.page.keyboard.down("Control")
    opened_page.page.mouse.wheel(0, -300)
    opened_page.page.keyboard.up("Control")
    opened_page.page.wait_for_selector("article .stage.zoomed")
    zoomed = transforms()
    opened_page.drag((x + 150, y), (x + 100, y - 40))
    moved = transforms()
    opened_page.page.locator("article .stage").first.focus()
    opened_page.page.keyboard.press("ArrowRight")
    assert len({before[0], zoomed[0], moved[0], transforms()[0]}) == 4
    opened_page.page.keyboard.press("0")
    assert transforms() == before
    opened_page.page.locator("article .zoom-in").first.click()
    assert transforms() != before


def test_the_table_sorts_by_its_columns_and_stays_sorted(opened_page: OpenPage, made: tuple[Path, Any]) -> None:
    def names() -> list[str]:
        found: list[str] = opened_page.page.eval_on_selector_all(
            "#images tbody tr", "rows => rows.map((row) => row.cells[0].textContent.trim())"
        )
        return found

    def expected(key: str, index: int, falling: bool) -> list[str]:
        curves = sorted(made[1]["curves"], key=lambda curve: curve["points"][index][key], reverse=falling)
        return [curve["image"] for curve in curves]

    for key in ("psnr", "heavy_share", "executed"):
        heading = opened_page.page.locator(f'#images th:has([data-key="{key}"])')
        heading.locator("button").click()
        assert names() == expected(key, 5, False) and heading.get_attribute("aria-sort") == "ascending"
        heading.locator("button").press("Enter")
        assert names() == expected(key, 5, True) and heading.get_attribute("aria-sort") == "descending"
    opened_page.page.locator('[data-curve="mean"] .handle').focus()
    opened_page.page.keyboard.press("PageDown")
    assert names() == expected("executed", 10, True)
    assert opened_page.page.locator('#images th[aria-sort="descending"]').count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 2560])
def test_the_page_fits_narrow_and_wide_windows_in_both_themes(
    browser: "Browser", made: tuple[Path, Any], width: int, scheme: Any
) -> None:
    with opened(browser, made[0], width, scheme=scheme) as shown:
        assert shown.page.evaluate("document.documentElement.scrollWidth") == width
        red = int(shown.style("body", "background-color").split("(")[1].split(",")[0])
        assert (red > 200) == (scheme == "light")
        assert shown.errors == []


def test_the_page_of_a_comparison_shows_every_picture(browser: "Browser", tmp_path: Path) -> None:
    pictures = [Picture(f"<i>{number}</i>.png", levels(60, 80, seed=number), "80×60") for number in range(3)]
    write_page(tmp_path / "p.html", compare_page("pcsr compare", "0.png", pictures), replace=False)
    with opened(browser, tmp_path / "p.html") as shown:
        for side in ("left", "right"):
            menu = shown.page.locator(f"article .{side}-layer")
            seen = set()
            for number in range(3):
                menu.select_option(str(number))
                assert shown.page.locator(f"article .tag.{side}").text_content() == f"<i>{number}</i>.png"
                seen.add(shown.pixels(side))
            assert len(seen) == 3
        assert shown.page.locator("article .map-style, article .panel, #images").count() == 0
        with shown.page.expect_download() as waiting:
            shown.page.locator("article .save-crop").click()
        assert waiting.value.suggested_filename.startswith("0 ")
        assert shown.errors == []


def test_the_policy_blocks_requests_and_other_scripts(browser: "Browser", made: tuple[Path, Any]) -> None:
    with opened(browser, made[0]) as shown:
        refused = shown.page.evaluate(
            """async () => {
                const blocked = [];
                addEventListener("securitypolicyviolation", (event) => blocked.push(event.effectiveDirective));
                await fetch("http://127.0.0.1:9/").catch(() => {});
                const image = document.createElement("img");
                image.src = "http://127.0.0.1:9/a.png";
                document.body.append(image);
                const script = document.createElement("script");
                script.textContent = "window.ran = true";
                document.body.append(script);
                await new Promise((done) => setTimeout(done, 300));
                return [...blocked.sort(), String(window.ran)];
            }"""
        )
        assert refused == ["connect-src", "img-src", "script-src-elem", "undefined"]
