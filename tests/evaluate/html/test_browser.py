"""The page as people use it, in a real Chromium: what it shows at a cut is what ``pcsr sweep`` prints for that cut."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from tests.command import ROOT, ForkServer, Pcsr
from tests.evaluate.html.browsing import Seen, chromium, opened

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
    """A page about three pictures, and what ``sweep --json`` prints about them."""
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
def window(browser: "Browser", made: tuple[Path, Any]) -> Iterator[Seen]:
    with opened(browser, made[0]) as shown:
        yield shown


@pytest.fixture
def seen(window: Seen, made: tuple[Path, Any]) -> Iterator[Seen]:
    """The page, opened afresh; at the end it must have had no error and asked for nothing."""
    window.requests.clear()
    window.open(made[0])
    yield window
    assert window.said == []
    assert [url for url in window.requests if not url.startswith("data:")] == [made[0].as_uri()]


def assert_shows(seen: Seen, swept: Any, index: int) -> None:
    """Every picture's panel, the mean's and the table have the figures of one point of the sweep."""
    curves = {"mean": swept["mean"], **{str(number): curve for number, curve in enumerate(swept["curves"])}}
    for which, curve in curves.items():
        point, shown, printed = curve["points"][index], seen.values(which), seen.texts(which)
        assert {key: float(shown[key]) for key in SAME} == {key: point[key] for key in SAME}
        assert printed["psnr"] == f"{point['psnr']:.3f}" and printed["cut"] == f"{point['cut']:.4f}"
        assert printed["heavy_share"] == f"{point['heavy_share']:.1%}" and printed["ssim"] == f"{point['ssim']:.4f}"
        assert printed["paper"] == f"{point['paper']:,.2f}" and printed["executed"] == f"{point['executed']:,.2f}"
        row = f'#pictures [data-picture="{which}"] [data-key="psnr"] data'
        assert float(str(seen.page.get_attribute(row, "value"))) == point["psnr"]


def dot(seen: Seen, which: str, index: int) -> tuple[float, float]:
    """Where a point of a curve is, in the window."""
    seen.page.locator(f'[data-curve="{which}"] svg').scroll_into_view_if_needed()
    box = seen.page.locator(f'[data-curve="{which}"] circle.dot').nth(index).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def heavy_in_map(seen: Seen) -> float:
    opacity = seen.pixels("map")[3::4]
    return sum(value > 0 for value in opacity) / len(opacity)


@pytest.mark.parametrize("which", ["0", "mean"])
def test_dragging_the_handle_moves_the_cut_everywhere(seen: Seen, made: tuple[Path, Any], which: str) -> None:
    swept = made[1]
    assert_shows(seen, swept, 5)
    for index in (8, 2):
        target = dot(seen, which, index)
        seen.drag(seen.centre(f'[data-curve="{which}"] .grip'), target)
        assert_shows(seen, swept, index)


def test_the_map_is_the_difficulty_at_the_cut(seen: Seen, made: tuple[Path, Any]) -> None:
    points = made[1]["curves"][0]["points"]
    for index in (3, 7):
        seen.drag(seen.centre('[data-curve="0"] .grip'), dot(seen, "0", index))
        seen.page.wait_for_selector(f'article[data-picture="0"] .stage[data-cut="{index}"]')
        assert heavy_in_map(seen) == points[index]["heavy_share"]


def test_the_handle_obeys_the_keyboard(seen: Seen, made: tuple[Path, Any]) -> None:
    handle = seen.page.locator('[data-curve="1"] .handle')
    handle.focus()
    for key, index in (("ArrowRight", 4), ("ArrowUp", 3), ("ArrowLeft", 4), ("PageDown", 9), ("Home", 10), ("End", 0)):
        seen.page.keyboard.press(key)
        assert_shows(seen, made[1], index)
    point = made[1]["curves"][1]["points"][0]
    assert float(str(handle.get_attribute("aria-valuenow"))) == point["paper"]
    assert f"{point['psnr']:.3f} dB" in str(handle.get_attribute("aria-valuetext"))
    assert seen.style('[data-curve="1"] .handle .ring', "stroke") != "none", "the focus must be visible"


def test_both_conventions_have_their_axis(seen: Seen, made: tuple[Path, Any]) -> None:
    seen.page.locator('[data-curve="0"] input[value="executed"]').check()
    assert seen.page.locator('[data-curve="2"] input[value="executed"]').is_checked()
    seen.drag(seen.centre('[data-curve="0"] .grip'), dot(seen, "0", 7))
    assert_shows(seen, made[1], 7)
    point = made[1]["curves"][0]["points"][7]
    now = seen.page.get_attribute('[data-curve="0"] .handle', "aria-valuenow")
    assert float(str(now)) == point["executed"]


def test_the_divider_can_be_dragged_and_typed(seen: Seen) -> None:
    stage = seen.page.locator("article .stage").first.bounding_box()
    assert stage is not None
    start = seen.centre("article .divider")
    seen.drag(start, (stage["x"] + stage["width"] * 0.25, start[1] + 30))
    assert seen.page.get_attribute("article .divider", "aria-valuenow") == "25"
    assert seen.style("article .side.left", "--split").startswith("25")
    seen.page.locator("article .divider").first.focus()
    for key, at in (("ArrowRight", "27"), ("PageUp", "37"), ("ArrowLeft", "35"), ("End", "100"), ("Home", "0")):
        seen.page.keyboard.press(key)
        assert seen.page.get_attribute("article .divider", "aria-valuenow") == at
    assert seen.style("article .side.left", "--split") == "0%"


def test_both_sides_show_any_layer(seen: Seen) -> None:
    left, right = (seen.page.locator(f"article .{side}-layer").first for side in ("left", "right"))
    names = left.locator("option").evaluate_all("options => options.map((option) => option.value)")
    assert sorted(names) == ["bicubic", "heavy", "hr", "light", "pcsr"]
    assert seen.pixels("left") != seen.pixels("right")
    for name in names:
        left.select_option(name)
        right.select_option(name)
        assert seen.pixels("left") == seen.pixels("right")
    assert seen.page.locator("article .tag.left").first.text_content() == "HR"


def test_pcsr_is_light_or_heavy_as_the_map_says(seen: Seen) -> None:
    layers = {}
    for name in ("light", "heavy", "pcsr"):
        seen.page.locator("article .right-layer").first.select_option(name)
        layers[name] = seen.pixels("right")
    light, heavy, pcsr = (memoryview(layers[name]).cast("I") for name in ("light", "heavy", "pcsr"))
    expected = [heavy[at] if mark else light[at] for at, mark in enumerate(seen.pixels("map")[3::4])]
    assert pcsr.tolist() == expected


def test_the_map_fades_and_changes_its_colours(seen: Seen) -> None:
    fade = seen.page.locator("article .map-fade").first
    fade.focus()
    seen.page.keyboard.press("Home")
    assert seen.style("article .side.map", "opacity") == "0"
    seen.page.keyboard.press("End")
    assert seen.style("article .side.map", "opacity") == "1"
    scale = seen.page.locator("article .scale").first
    assert not scale.is_visible()
    seen.page.locator("article .map-style").first.select_option("difficulty")
    assert scale.is_visible()
    assert len(set(memoryview(seen.pixels("map")).cast("I"))) > 20


def test_all_layers_zoom_and_move_together(seen: Seen) -> None:
    def transforms() -> list[str]:
        found: list[str] = seen.page.eval_on_selector_all(
            'article[data-picture="0"] .world', "worlds => worlds.map((world) => getComputedStyle(world).transform)"
        )
        assert len(found) == 3 and len(set(found)) == 1
        return found

    before = transforms()
    x, y = seen.centre("article .stage")
    seen.page.mouse.move(x + 100, y)
    seen.page.keyboard.down("Control")
    seen.page.mouse.wheel(0, -300)
    seen.page.keyboard.up("Control")
    seen.page.wait_for_selector("article .stage.zoomed")
    zoomed = transforms()
    seen.drag((x + 150, y), (x + 100, y - 40))
    moved = transforms()
    seen.page.locator("article .stage").first.focus()
    seen.page.keyboard.press("ArrowRight")
    assert len({before[0], zoomed[0], moved[0], transforms()[0]}) == 4
    seen.page.keyboard.press("0")
    assert transforms() == before
    seen.page.locator("article .zoom-in").first.click()
    assert transforms() != before


def test_the_table_sorts_by_its_columns_and_stays_sorted(seen: Seen, made: tuple[Path, Any]) -> None:
    def names() -> list[str]:
        found: list[str] = seen.page.eval_on_selector_all(
            "#pictures tbody tr", "rows => rows.map((row) => row.cells[0].textContent.trim())"
        )
        return found

    def expected(key: str, index: int, falling: bool) -> list[str]:
        curves = sorted(made[1]["curves"], key=lambda curve: curve["points"][index][key], reverse=falling)
        return [curve["picture"] for curve in curves]

    for key in ("psnr", "heavy_share", "executed"):
        heading = seen.page.locator(f'#pictures th:has([data-key="{key}"])')
        heading.locator("button").click()
        assert names() == expected(key, 5, False) and heading.get_attribute("aria-sort") == "ascending"
        heading.locator("button").press("Enter")
        assert names() == expected(key, 5, True) and heading.get_attribute("aria-sort") == "descending"
    seen.page.locator('[data-curve="mean"] .handle').focus()
    seen.page.keyboard.press("PageDown")
    assert names() == expected("executed", 10, True)
    assert seen.page.locator('#pictures th[aria-sort="descending"]').count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 2560])
def test_it_fits_any_window_in_both_themes(browser: "Browser", made: tuple[Path, Any], width: int, scheme: Any) -> None:
    with opened(browser, made[0], width, scheme=scheme) as shown:
        assert shown.page.evaluate("document.documentElement.scrollWidth") == width
        red = int(shown.style("body", "background-color").split("(")[1].split(",")[0])
        assert (red > 200) == (scheme == "light")
        assert shown.said == []


def test_the_page_may_not_ask_for_anything(browser: "Browser", made: tuple[Path, Any]) -> None:
    with opened(browser, made[0]) as shown:
        refused = shown.page.evaluate(
            """async () => {
                const told = [];
                addEventListener("securitypolicyviolation", (event) => told.push(event.effectiveDirective));
                await fetch("http://127.0.0.1:9/").catch(() => {});
                const image = document.createElement("img");
                image.src = "http://127.0.0.1:9/a.png";
                document.body.append(image);
                const script = document.createElement("script");
                script.textContent = "window.ran = true";
                document.body.append(script);
                await new Promise((done) => setTimeout(done, 300));
                return [...told.sort(), String(window.ran)];
            }"""
        )
        assert refused == ["connect-src", "img-src", "script-src-elem", "undefined"]
