"""What of a picture lies within a page: exact where it can be, small where it has to be."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pcsr_cli.evaluate.html import previews
from pcsr_cli.evaluate.html.previews import MOST_BOUNDARIES, Preview, choose_boundaries, make_previews
from tests.images import levels

DIFFICULTY = np.random.default_rng(0).random((60, 90), dtype=np.float32)


def decoded(uri: str) -> np.ndarray:
    head, data = uri.split(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return np.asarray(image.convert("RGB"))


def previews_of(
    height: int, width: int, interest: np.ndarray | None = None
) -> tuple[tuple[Preview, ...], np.ndarray, np.ndarray]:
    rgb = levels(height, width)
    difficulty = np.random.default_rng(1).random((height, width), dtype=np.float32)
    seen = np.ones((height, width), np.float32) if interest is None else interest
    made = make_previews({"light": rgb, "heavy": 255 - rgb}, difficulty, choose_boundaries([0.5]), seen)
    return made, rgb, difficulty


@given(st.lists(st.floats(0, 1), min_size=1, max_size=MOST_BOUNDARIES, unique=True))
def test_a_level_tells_exactly_on_which_side_of_each_cut_a_pixel_is(cuts: list[float]) -> None:
    boundaries = choose_boundaries(cuts)
    assert len(boundaries.values) <= MOST_BOUNDARIES
    found = boundaries.levels(DIFFICULTY)
    for cut in cuts:
        assert np.array_equal(found > boundaries.index(cut), np.float32(cut) < DIFFICULTY)


def test_pixels_on_a_cut_are_light_as_they_are_to_the_engine() -> None:
    boundaries = choose_boundaries([0.3])
    assert not (boundaries.levels(np.array([[0.3]], np.float32)) > boundaries.index(0.3)).any()


def test_few_cuts_still_give_the_map_its_colours() -> None:
    assert len(choose_boundaries([0.5]).values) >= 60


def test_a_small_result_is_shown_pixel_for_pixel() -> None:
    (preview,), rgb, difficulty = previews_of(60, 90)
    assert preview.size == (90, 60) and not preview.scaled
    assert np.array_equal(decoded(preview.difficulty)[..., 0], choose_boundaries([0.5]).levels(difficulty))
    for name, expected in (("light", rgb), ("heavy", 255 - rgb)):
        assert decoded(preview.layers[name]).shape == expected.shape


class TestALargeResult:
    """It is scaled down, but for a detail."""

    @pytest.fixture(autouse=True)
    def small_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(previews, "WHOLE_PIXELS", 5_000)
        monkeypatch.setattr(previews, "SCALED_PIXELS", 2_000)
        monkeypatch.setattr(previews, "DETAIL", 32)

    def test_every_pixel_of_the_difficulty_is_a_real_one(self) -> None:
        (whole, _), _, difficulty = previews_of(100, 150)
        assert whole.scaled and whole.size[0] * whole.size[1] <= 2_100
        rows, columns = (
            ((2 * np.arange(short) + 1) * long) // (2 * short)
            for short, long in ((whole.size[1], 100), (whole.size[0], 150))
        )
        expected = choose_boundaries([0.5]).levels(difficulty)[rows[:, None], columns]
        assert np.array_equal(decoded(whole.difficulty)[..., 0], expected)

    def test_the_detail_is_where_there_is_most_to_see(self) -> None:
        interest = np.zeros((100, 150), np.float32)
        interest[40:60, 100:120] = 1
        (_, detail), _, difficulty = previews_of(100, 150, interest)
        assert detail.left <= 100 and detail.left + 32 >= 120 and detail.top <= 40 and detail.top + 32 >= 60
        inside = difficulty[detail.top : detail.top + 32, detail.left : detail.left + 32]
        assert np.array_equal(decoded(detail.difficulty)[..., 0], choose_boundaries([0.5]).levels(inside))
        assert not detail.scaled

    def test_what_is_too_much_is_packed_harder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        easy, _, _ = previews_of(100, 150)
        monkeypatch.setattr(previews, "MOST_BYTES", 5_000)
        hard, _, _ = previews_of(100, 150)
        taken = [
            sum(len(decoding) for part in made for decoding in (*part.layers.values(), part.difficulty)) * 3 // 4
            for made in (easy, hard)
        ]
        assert taken[1] <= 5_500 < taken[0]

    def test_a_picture_of_one_row_is_shown_too(self) -> None:
        made, _, _ = previews_of(1, 40_000)
        assert made[0].size[0] <= previews.LONGEST_SIDE and made[0].size[1] == 1
