"""The previews of an image: exact levels of difficulty, and a limited size."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pcsr_cli.evaluate.arguments import MAX_BOUNDARIES
from pcsr_cli.evaluate.html import previews
from pcsr_cli.evaluate.html.previews import Preview, choose_boundaries, make_previews, to_levels
from tests.images import levels

DIFFICULTY = np.random.default_rng(0).random((60, 90), dtype=np.float32)


def decoded(uri: str | None) -> np.ndarray:
    assert uri is not None
    head, data = uri.split(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return np.asarray(image.convert("RGB"))


def previews_of(
    height: int, width: int, interest: np.ndarray | None = None
) -> tuple[tuple[Preview, ...], np.ndarray, np.ndarray]:
    rgb = levels(height, width)
    difficulty = np.random.default_rng(1).random((height, width), dtype=np.float32)
    interest = np.ones((height, width), np.float32) if interest is None else interest
    found = to_levels(difficulty, choose_boundaries([0.5]))
    made = make_previews({"light": rgb, "heavy": 255 - rgb}, interest, found)
    return made, rgb, difficulty


@given(st.lists(st.floats(0, 1), min_size=1, max_size=MAX_BOUNDARIES, unique=True))
def test_levels_are_exact_at_every_cut(cuts: list[float]) -> None:
    boundaries = choose_boundaries(cuts)
    assert len(boundaries) <= MAX_BOUNDARIES
    found = to_levels(DIFFICULTY, boundaries)
    for cut in cuts:
        assert np.array_equal(found > boundaries.index(cut), np.float32(cut) < DIFFICULTY)


def test_a_pixel_exactly_on_a_cut_is_light_as_in_the_engine() -> None:
    boundaries = choose_boundaries([0.3])
    assert not (to_levels(np.array([[0.3]], np.float32), boundaries) > boundaries.index(0.3)).any()


def test_a_single_cut_still_gives_enough_colours() -> None:
    assert len(choose_boundaries([0.5])) >= 60


def test_a_small_result_has_one_preview_at_full_size() -> None:
    (preview,), rgb, difficulty = previews_of(60, 90)
    assert preview.size == (90, 60) and not preview.scaled
    assert np.array_equal(decoded(preview.difficulty)[..., 0], to_levels(difficulty, choose_boundaries([0.5])))
    for name, expected in (("light", rgb), ("heavy", 255 - rgb)):
        assert decoded(preview.layers[name]).shape == expected.shape


class TestALargeResult:
    """It is scaled down, and a detail at full size is added."""

    @pytest.fixture(autouse=True)
    def small_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(previews, "MAX_PIXELS", 5_000)
        monkeypatch.setattr(previews, "SCALED_PIXELS", 2_000)
        monkeypatch.setattr(previews, "DETAIL", 32)

    def test_difficulty_is_sampled(self) -> None:
        (whole, _), _, difficulty = previews_of(100, 150)
        assert whole.scaled and whole.size[0] * whole.size[1] <= 2_100
        rows, columns = (
            ((2 * np.arange(short) + 1) * long) // (2 * short)
            for short, long in ((whole.size[1], 100), (whole.size[0], 150))
        )
        expected = to_levels(difficulty, choose_boundaries([0.5]))[rows[:, None], columns]
        assert np.array_equal(decoded(whole.difficulty)[..., 0], expected)

    def test_the_detail_has_the_largest_interest(self) -> None:
        interest = np.zeros((100, 150), np.float32)
        interest[40:60, 100:120] = 1
        (_, detail), _, difficulty = previews_of(100, 150, interest)
        assert detail.left <= 100 and detail.left + 32 >= 120 and detail.top <= 40 and detail.top + 32 >= 60
        inside = difficulty[detail.top : detail.top + 32, detail.left : detail.left + 32]
        assert np.array_equal(decoded(detail.difficulty)[..., 0], to_levels(inside, choose_boundaries([0.5])))
        assert not detail.scaled

    def test_quality_falls_until_the_previews_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        easy, _, _ = previews_of(100, 150)
        monkeypatch.setattr(previews, "MAX_BYTES", 5_000)
        hard, _, _ = previews_of(100, 150)
        taken = [
            sum(len(decoding) for part in made for decoding in (*part.layers.values(), part.difficulty or "")) * 3 // 4
            for made in (easy, hard)
        ]
        assert taken[1] <= 5_500 < taken[0]

    def test_an_image_of_one_row_respects_the_limit_of_webp(self) -> None:
        made, _, _ = previews_of(1, 40_000)
        assert made[0].size[0] <= previews.MAX_SIDE and made[0].size[1] == 1
