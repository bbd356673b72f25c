"""The page: it shows the figures of a sweep, makes no requests, and treats names as text."""

import base64
import hashlib
import html.parser
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pcsr_cli.engine.upscale import Settings
from pcsr_cli.errors import RefusedOutputError, UsageError
from pcsr_cli.evaluate.arguments import check_page, parse_grid
from pcsr_cli.evaluate.dataset import Pair
from pcsr_cli.evaluate.html.page import Measured, Page, PageImage, build_image, render, report_page, write_page
from pcsr_cli.evaluate.runner import Conditions
from pcsr_cli.evaluate.sweep import mean_curve, sweep
from pcsr_cli.model.registry import Identity, LoadedModel
from pcsr_cli.model.spec import Scales
from tests.failing import fails
from tests.images import levels
from tests.tiny import tiny_model

IDENTITY = Identity("tiny", None, "5" * 64, "MIT", "nowhere", "carn")
MODEL = LoadedModel(tiny_model("carn"), IDENTITY, Scales((4.0,)))
GRID = parse_grid("threshold", "0:1:0.25")
CONDITIONS = Conditions(MODEL, 4, Settings(refine=1))


def pair(name: str = "a.png", seed: int = 0, has_hr: bool = True) -> Pair:
    return Pair(name, levels(12, 15, seed=seed), levels(48, 60, seed=seed + 1) if has_hr else None, 4)


def page_image(name: str = "a.png", seed: int = 0, has_hr: bool = True) -> PageImage:
    return build_image(CONDITIONS, pair(name, seed, has_hr), GRID)


def page_of(*images: PageImage, command: str = "pcsr report p.html", no_reference: bool = False) -> Page:
    return report_page(command, images, Measured(replace(CONDITIONS, no_reference=no_reference)))


def embedded(text: str) -> Any:
    (data,) = re.findall(r'<script type="application/json" id="page-data">(.*?)</script>', text, flags=re.DOTALL)
    return json.loads(data, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize("has_hr", [True, False], ids=["HR", "all heavy"])
def test_the_figures_equal_a_sweep(has_hr: bool) -> None:
    curve = sweep(CONDITIONS, pair(has_hr=has_hr), GRID)
    text = render(page_of(page_image(has_hr=has_hr), no_reference=not has_hr))
    assert ("PSNR" in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)) is has_hr
    document = embedded(text)
    assert (document["quality"], document["against"]) == (
        ("PSNR, dB", "against HR") if has_hr else ("Similarity, dB", "to all heavy")
    )
    points = document["images"][0]["curve"]["points"]
    assert [point["cut"] for point in points] == list(GRID.values)
    for shown, expected in zip(points, curve.points, strict=True):
        finite = None if expected.psnr == float("inf") else expected.psnr
        assert (shown["psnr"], shown["ssim"]) == (finite, expected.ssim)
        assert (shown["paper"], shown["executed"]) == (expected.paper, expected.executed)
        assert shown["heavy_share"] == expected.heavy_share
    assert "hr" in document["images"][0]["previews"][0]["layers"] or not has_hr


def test_the_mean_equals_the_mean_curve_of_a_sweep() -> None:
    images = page_image("a.png"), page_image("b.png", 5)
    expected = mean_curve([image.swept.curve for image in images if image.swept is not None])
    document = embedded(render(page_of(*images)))
    assert [point["psnr"] for point in document["mean"]["points"]] == [point.psnr for point in expected.points]


def test_an_infinite_psnr_becomes_null() -> None:
    flat = Pair("flat.png", np.full((12, 15, 3), 128, np.uint8), np.full((48, 60, 3), 128, np.uint8), 4)
    image = build_image(CONDITIONS, flat, GRID)
    assert image.swept is not None and image.swept.filters == {"bicubic": math.inf, "Lanczos": math.inf}
    document = embedded(render(page_of(page_image(), image)))
    assert document["images"][1]["filters"] == {"bicubic": None, "Lanczos": None}
    assert document["meanFilters"] == document["images"][0]["filters"]  # the mean of finite values
    assert document["meanFilters"]["Lanczos"] > 0


def test_progress_rises_to_one() -> None:
    shares: list[float] = []
    build_image(CONDITIONS, pair(), GRID, shares.append)
    assert shares == sorted(shares) and shares[-1] == 1


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Tags()
    parser.feed(text)
    return parser.tags


def test_all_links_stay_inside_the_page() -> None:
    links = [
        str(value)
        for tag, attributes in tags(render(page_of(page_image())))
        for name, value in attributes.items()
        if name in {"src", "href", "action", "data", "poster", "srcset"} and tag != "data"
    ]
    assert links and all(link.startswith(("data:", "#")) for link in links)


def test_the_content_security_policy_allows_only_the_style_and_the_script_of_the_page() -> None:
    text = render(page_of(page_image()))
    (policy,) = [str(attributes["content"]) for tag, attributes in tags(text) if "Content-Security" in str(attributes)]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind, pattern in (("style", r"<style>(.*?)</style>"), ("script", r"<script>(.*?)</script>")):
        (content,) = re.findall(pattern, text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not [attributes for _, attributes in tags(text) if "style" in attributes or "onclick" in attributes]


def test_an_existing_page_is_replaced_only_on_request(tmp_path: Path) -> None:
    output = tmp_path / "p.html"
    output.write_text("mine")
    with fails(RefusedOutputError, f"{output} already exists."):
        write_page(output, page_of(page_image()), replace=False)
    assert output.read_text() == "mine"
    write_page(output, page_of(page_image()), replace=True)
    assert output.read_text() != "mine"


@pytest.mark.parametrize("name", ["</script><script>alert(1)</script>", "<b>&amp;", "'\" {{ 7 * 7 }}", "\udcff.png"])
def test_names_and_commands_are_escaped(name: str, tmp_path: Path) -> None:
    plain, odd = page_of(page_image()), page_of(page_image(name), command=f"pcsr {name}")
    assert [tag for tag, _ in tags(render(odd))] == [tag for tag, _ in tags(render(plain))]
    write_page(tmp_path / "p.html", odd, replace=False)
    assert embedded((tmp_path / "p.html").read_text(encoding="utf-8"))["images"][0]["name"] == name.replace(
        "\udcff", "?"
    )


def test_the_page_names_model_command_and_versions() -> None:
    text = render(page_of(page_image(), command="pcsr report p.html --scale 4"))
    facts = f"{MODEL.network.parameter_count():,} parameters", f"torch {torch.__version__}"
    for fact in ("tiny", "5" * 64, "MIT", "pcsr report p.html --scale 4", *facts):
        assert fact in text


def test_other_suffixes_and_too_many_cuts_are_refused() -> None:
    check_page(Path("p.html"), GRID)
    with fails(RefusedOutputError, "Cannot write a report as"):
        check_page(Path("p.png"), GRID)
    with fails(UsageError, "A report holds at most 255 cuts, not 501."):
        check_page(Path("p.html"), parse_grid("threshold", "0:1:0.002"))
