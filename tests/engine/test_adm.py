"""ADM finds the cut that the published code's clustering finds, from a survey of bounded size."""

import pytest
import torch
from fast_pytorch_kmeans import KMeans
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from pcsr_cli.engine import routing as adm
from pcsr_cli.engine.routing import ADM_SAMPLE, DifficultySurvey, decide_adaptively


def distribution(name: str, count: int, seed: int = 0) -> Tensor:
    """Difficulties as images may have them; all in [0, 1], float32, in no order."""
    generator = torch.Generator().manual_seed(seed)
    uniform, normal = torch.rand(count, generator=generator), torch.randn(count, generator=generator)
    match name:
        case "uniform":
            return uniform
        case "mostly easy":
            return uniform**4
        case "mostly hard":
            return 1 - uniform**6
        case "two humps":
            return torch.where(uniform < 0.7, 0.25 + 0.08 * normal, 0.8 + 0.06 * normal).clamp(0, 1)
        case "narrow":
            return 0.5 + 1e-3 * normal.clamp(-3, 3)
        case _:
            return torch.sigmoid(2 * normal - 1)


FLIPPED = 1e-4
"""Share of the pixels that a sample may send elsewhere: the centres move by rounding, and the cut with them."""

DISTRIBUTIONS = ("uniform", "mostly easy", "mostly hard", "two humps", "narrow", "bell")


def published_clusters(values: Tensor) -> Tensor:
    """What the reference implementation does with p_heavy, to the letter: True is heavy."""
    rescaled = (values - values.min()) / (values.max() - values.min())
    kmeans = KMeans(n_clusters=2, max_iter=20, mode="euclidean")
    labels: Tensor = kmeans.fit_predict(rescaled[:, None], centroids=torch.tensor([[0.5]]))
    return labels != labels[rescaled.argmin()]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_clusters_as_the_published_code_does(name: str) -> None:
    values = distribution(name, 20_000)
    labels = decide_adaptively(values, 2).labels_of_difficulty(values)
    assert torch.equal(labels.bool(), published_clusters(values))
    assert 0 < labels.float().mean() < 1


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=40))
def test_clusters_small_pictures_alike(numbers: list[float]) -> None:
    values = torch.tensor(numbers)
    assume(values.max() - values.min() > 1e-3)
    cuts = decide_adaptively(values, 2)
    heavy = cuts.labels_of_difficulty(values).bool()
    on_the_cut = (values - cuts.values[0]).abs() < 1e-6
    assert torch.equal(heavy[~on_the_cut], published_clusters(values)[~on_the_cut])


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.integers(2, 4))
def test_order_and_shape_of_the_pixels_do_not_matter(numbers: list[float], branches: int) -> None:
    values = torch.tensor(numbers)
    cuts = decide_adaptively(values, branches)
    assert decide_adaptively(values.view(1, -1), branches) == cuts
    assert decide_adaptively(values.flip(0), branches).values == pytest.approx(cuts.values, abs=1e-6)


@pytest.mark.parametrize("branches", [2, 3])
@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_flat_image_is_all_light(level: float, branches: int) -> None:
    values = torch.full((5, 7), level)
    assert not decide_adaptively(values, branches).labels_of_difficulty(values).any()


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.integers(2, 5))
def test_the_easiest_pixel_is_light_and_branches_ascend_with_difficulty(numbers: list[float], branches: int) -> None:
    values = torch.tensor(numbers).sort().values
    cuts = decide_adaptively(values, branches)
    labels = cuts.labels_of_difficulty(values).long()
    assert len(cuts.values) == branches - 1
    assert list(cuts.values) == sorted(cuts.values)
    assert labels[0] == 0
    assert (labels.diff() >= 0).all() and int(labels.max()) < branches


def test_three_clusters_find_three_humps() -> None:
    centres = torch.tensor([0.1, 0.5, 0.9]).repeat_interleave(100)
    values = centres + torch.linspace(-0.05, 0.05, 300)
    labels = decide_adaptively(values, 3).labels_of_difficulty(values)
    assert labels.tolist() == [0] * 100 + [1] * 100 + [2] * 100


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("count", [400_001, 900_000])
def test_a_sample_moves_the_cut_by_less_than_a_thousandth(
    name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = distribution(name, count)
    sampled = decide_adaptively(values, 2)
    with monkeypatch.context() as patch:
        patch.setattr(adm, "ADM_SAMPLE", count)
        full = decide_adaptively(values, 2)
    assert abs(sampled.values[0] - full.values[0]) < 1e-3
    flipped = sampled.labels_of_difficulty(values) != full.labels_of_difficulty(values)
    assert flipped.float().mean() < FLIPPED


def test_a_sample_is_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adm, "ADM_SAMPLE", 1000)
    values = distribution("two humps", 12_345)
    assert decide_adaptively(values, 2) == decide_adaptively(values, 2)


def test_a_sample_keeps_lone_extremes(monkeypatch: pytest.MonkeyPatch) -> None:
    # The whole range is rescaled by two pixels among ten thousand, which any place in the image may hold.
    values = torch.cat((torch.tensor([0.0]), distribution("narrow", 9_998), torch.tensor([1.0])))
    full = decide_adaptively(values, 2)
    monkeypatch.setattr(adm, "ADM_SAMPLE", 1000)
    assert decide_adaptively(values, 2).values == pytest.approx(full.values, abs=1e-3)


def test_a_sample_is_not_caught_by_stripes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adm, "ADM_SAMPLE", 1000)
    stripes = torch.tensor([0.2, 0.8]).repeat(1500)
    labels = decide_adaptively(stripes, 2).labels_of_difficulty(stripes)
    assert labels.float().mean() == 0.5


def surveyed(values: Tensor, areas: int = 7) -> Tensor:
    survey = DifficultySurvey(values.numel())
    for area in values.tensor_split(areas):
        survey.add(area.view(1, -1))
    return survey.values()


def test_a_survey_of_an_ordinary_image_keeps_every_value() -> None:
    values = distribution("two humps", 10_000)
    assert torch.equal(surveyed(values), values)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("buffer", [1_000, 60_000])
def test_a_survey_of_a_large_image_knows_values_to_a_bin(
    name: str, buffer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = distribution(name, 200_000)
    monkeypatch.setattr(adm, "EXACT_PIXELS", buffer)
    monkeypatch.setattr(adm, "ADM_SAMPLE", 200_000)
    monkeypatch.setattr(adm, "BINS", 2**16)
    assert (surveyed(values) - values.sort().values).abs().max() <= 1 / 2**16


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_survey_of_a_large_image_decides_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = distribution(name, 400_000)
    with monkeypatch.context() as patch:
        patch.setattr(adm, "ADM_SAMPLE", values.numel())
        full = decide_adaptively(values, 2)
    monkeypatch.setattr(adm, "EXACT_PIXELS", 50_000)
    survey = surveyed(values)
    assert survey.numel() == ADM_SAMPLE
    decided = decide_adaptively(survey, 2)
    assert abs(decided.values[0] - full.values[0]) < 1e-3
    flipped = decided.labels_of_difficulty(values) != full.labels_of_difficulty(values)
    near = (values - full.values[0]).abs() <= 2 / adm.BINS
    assert (flipped & ~near).float().mean() < FLIPPED


def test_a_survey_does_not_hold_on_to_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    values = distribution("bell", 100)
    survey = DifficultySurvey(100)
    given_away = values.clone()
    survey.add(given_away)
    given_away.zero_()
    assert torch.equal(survey.values(), values)


@pytest.mark.parametrize("value", [0.0, 0.3, 0.7, 1.0])
def test_a_flat_large_image_is_all_light(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adm, "EXACT_PIXELS", 100)
    cuts = decide_adaptively(surveyed(torch.full((1_000,), value)), 2)
    assert not cuts.labels_of_difficulty(torch.full((5,), value)).any()
