"""Routing: cuts, the cost trade-off, ADM, budgets, and masks that override the classifier."""

import re

import numpy as np
import pytest
import torch
from fast_pytorch_kmeans import KMeans
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace
from torch import Tensor

from pcsr_cli.engine import routing as adm
from pcsr_cli.engine.grid import hr_size, nearest_index
from pcsr_cli.engine.routing import (
    ADM_SAMPLE,
    CostRule,
    Cuts,
    DifficultySurvey,
    Forced,
    Size,
    cut_for_share,
    decide,
    decide_adaptively,
    difficulty,
    gflops_range,
    heavy_share,
    to_budget,
    tradeoff_cut,
)
from pcsr_cli.engine.rules import (
    Adaptive,
    Allowance,
    Budget,
    Routing,
    Threshold,
    Tradeoff,
    default_routing,
    parse_allowance,
)
from pcsr_cli.engine.tiles import Rect, Span
from pcsr_cli.engine.upscale import Outcome, Settings, upscale_whole
from pcsr_cli.errors import UsageError, in_full
from pcsr_cli.model.flops import model_costs, paper_flops
from pcsr_cli.model.network import Pcsr
from tests import reference
from tests.closeness import assert_same
from tests.failing import fails
from tests.strategies import examples, lengths, routings, scales
from tests.tiny import Result, make_image, tiny_model, upscaled

CARN_COSTS = (0.3188, 0.6812)

cost_pairs = st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)).map(lambda pair: (min(pair), max(pair)))
useful_k = st.floats(-1, 2)


def two_branches(p_heavy: Tensor) -> Tensor:
    return torch.stack((1 - p_heavy, p_heavy))


def random_probabilities(branches: int, seed: int, count: int = 200) -> Tensor:
    return torch.randn(branches, count, generator=torch.Generator().manual_seed(seed)).softmax(dim=0)


class TestThreshold:
    @pytest.mark.parametrize(("cut", "labels"), [(0.0, [0, 1, 1, 1, 1]), (0.5, [0, 0, 0, 1, 1]), (1.0, [0] * 5)])
    def test_heavy_is_strictly_above_the_cut(self, cut: float, labels: list[int]) -> None:
        decision = decide(Threshold(cut), CARN_COSTS)
        assert decision == Cuts((cut,))
        assert decision.labels(two_branches(torch.tensor([0.0, 1e-30, 0.5, 0.500001, 1.0]))).tolist() == labels

    @pytest.mark.parametrize("cut", [-0.1, 1.1, float("nan")])
    def test_the_value_is_a_probability(self, cut: float) -> None:
        with fails(UsageError, f"The threshold {in_full(cut)} is not a probability."):
            Threshold(cut)

    def test_other_numbers_of_branches_are_refused(self) -> None:
        for name, routing in (("threshold", Threshold()), ("budget", Budget(gflops=1))):
            with fails(UsageError, f"A {name} needs a model of two branches, but this one has 3."):
                decide(routing, (1, 2, 3))


class TestTradeoff:
    @pytest.mark.parametrize(
        ("k", "cut"), [(0, 0.5), (1, 0.6812), (2, 0.6812**2 / (0.6812**2 + 0.3188**2)), (-1, 0.3188)]
    )
    def test_k_gives_a_cut(self, k: float, cut: float) -> None:
        assert tradeoff_cut(CARN_COSTS, k) == pytest.approx(cut)

    @given(cost_pairs, useful_k, st.integers(0, 1000))
    def test_the_cut_matches_the_cost_rule(self, costs: tuple[float, float], k: float, seed: int) -> None:
        probabilities = random_probabilities(2, seed).double()
        weighed = probabilities / torch.tensor(costs, dtype=torch.float64)[:, None] ** k
        clear = (weighed[0] / weighed[1] - 1).abs() > 1e-6
        decision = decide(Tradeoff(k), costs)
        assert isinstance(decision, Cuts)
        assert torch.equal(decision.labels(probabilities)[clear], weighed.argmax(dim=0)[clear].byte())

    @given(cost_pairs, useful_k, st.floats(0.001, 1000))
    def test_only_the_ratio_of_costs_matters(self, costs: tuple[float, float], k: float, factor: float) -> None:
        scaled = (costs[0] * factor, costs[1] * factor)
        assert tradeoff_cut(costs, k) == pytest.approx(tradeoff_cut(scaled, k))

    @given(cost_pairs, useful_k, useful_k)
    def test_a_larger_k_is_cheaper(self, costs: tuple[float, float], one: float, other: float) -> None:
        small, large = sorted((one, other))
        assert tradeoff_cut(costs, small) <= tradeoff_cut(costs, large)

    @pytest.mark.parametrize(("k", "label"), [(-25, 1), (-100, 1), (100, 0)])
    def test_extreme_k_selects_one_branch(self, k: float, label: int) -> None:
        decision = decide(Tradeoff(k), CARN_COSTS)
        assert decision is not None
        assert (decision.labels(two_branches(torch.tensor([1e-6, 0.5, 1 - 1e-6]))) == label).all()
        labels = CostRule((1e-3, 0.1, 0.899), k).labels(random_probabilities(3, seed=1))
        assert (labels == 2 * label).all()

    @pytest.mark.parametrize("costs", [CARN_COSTS, (0.2, 0.3, 0.5)], ids=len)
    def test_a_tie_goes_to_light(self, costs: tuple[float, ...]) -> None:
        decision = decide(Tradeoff(0), costs)
        assert decision is not None
        assert decision.labels(torch.full((len(costs), 1), 1 / len(costs))).item() == 0

    @given(st.integers(0, 1000), useful_k)
    def test_many_branches_weigh_probability_against_cost(self, seed: int, k: float) -> None:
        costs = (1.0, 3.0, 10.0)
        probabilities = random_probabilities(3, seed)
        weighed = probabilities.double() / torch.tensor(costs, dtype=torch.float64)[:, None] ** k
        best_two = weighed.topk(2, dim=0).values
        clear = best_two[1] / best_two[0] < 1 - 1e-5
        decision = decide(Tradeoff(k), costs)
        assert isinstance(decision, CostRule)
        assert torch.equal(decision.labels(probabilities)[clear], weighed.argmax(dim=0)[clear].byte())

    @pytest.mark.parametrize("k", [-101, 101, float("nan"), float("inf")])
    def test_k_out_of_range_is_refused(self, k: float) -> None:
        with fails(UsageError, f"k = {in_full(k)} is out of range."):
            Tradeoff(k)


class TestDifficulty:
    def test_two_branches_have_p_heavy_as_difficulty(self) -> None:
        p_heavy = torch.tensor([0.1, 0.7])
        assert torch.equal(difficulty(two_branches(p_heavy)), p_heavy)

    @pytest.mark.parametrize(("branches", "heavier"), [(2, 1), (3, 2), (4, 2), (5, 3)])
    def test_difficulty_sums_over_the_heavier_half(self, branches: int, heavier: int) -> None:
        one_hot = torch.eye(branches)
        assert difficulty(one_hot).tolist() == [0] * (branches - heavier) + [1] * heavier

    @given(st.integers(2, 5), st.integers(0, 100))
    def test_the_value_is_a_probability(self, branches: int, seed: int) -> None:
        values = difficulty(random_probabilities(branches, seed))
        assert (values >= 0).all() and (values <= 1 + 1e-6).all()


@pytest.mark.parametrize("branches", [2, 3, 5])
def test_the_default_selects_the_most_probable_branch(branches: int) -> None:
    probabilities = random_probabilities(branches, seed=7)
    decision = decide(default_routing(branches), [float(cost) for cost in range(1, branches + 1)])
    assert decision is not None
    assert torch.equal(decision.labels(probabilities), probabilities.argmax(dim=0).byte())


def test_adm_decides_only_with_the_image() -> None:
    assert decide(Adaptive(), CARN_COSTS) is None


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
"""Share of the pixels whose branch may change, because rounding moves the centres and the cut."""

DISTRIBUTIONS = ("uniform", "mostly easy", "mostly hard", "two humps", "narrow", "bell")


def published_clusters(values: Tensor) -> Tensor:
    """The clusters of p_heavy from the reference implementation. True is heavy."""
    rescaled = (values - values.min()) / (values.max() - values.min())
    kmeans = KMeans(n_clusters=2, max_iter=20, mode="euclidean")
    labels: Tensor = kmeans.fit_predict(rescaled[:, None], centroids=torch.tensor([[0.5]]))
    return labels != labels[rescaled.argmin()]


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_clusters_match_the_published_code(name: str) -> None:
    values = distribution(name, 20_000)
    labels = decide_adaptively(values, 2).labels_of_difficulty(values)
    assert torch.equal(labels.bool(), published_clusters(values))
    assert 0 < labels.float().mean() < 1


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=40))
def test_clusters_of_small_images_match_the_published_code(numbers: list[float]) -> None:
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
    # Two pixels among ten thousand determine the range of the difficulties.
    values = torch.cat((torch.tensor([0.0]), distribution("narrow", 9_998), torch.tensor([1.0])))
    full = decide_adaptively(values, 2)
    monkeypatch.setattr(adm, "ADM_SAMPLE", 1000)
    assert decide_adaptively(values, 2).values == pytest.approx(full.values, abs=1e-3)


def test_a_sample_represents_stripes(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_survey_of_a_large_image_keeps_values_to_a_bin(
    name: str, buffer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = distribution(name, 200_000)
    monkeypatch.setattr(adm, "EXACT_PIXELS", buffer)
    monkeypatch.setattr(adm, "ADM_SAMPLE", 200_000)
    monkeypatch.setattr(adm, "BINS", 2**16)
    assert (surveyed(values) - values.sort().values).abs().max() <= 1 / 2**16


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_survey_of_a_large_image_gives_nearly_the_same_cut(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_survey_copies_its_values() -> None:
    values, survey = distribution("bell", 100), DifficultySurvey(100)
    added = values.clone()
    survey.add(added)
    added.zero_()
    assert torch.equal(survey.values(), values)


@pytest.mark.parametrize("branches", [2, 3])
@pytest.mark.parametrize("value", [0.0, 0.3, 0.7, 1.0])
def test_a_flat_image_is_all_light(value: float, branches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.full((25, 40), value)
    assert not decide_adaptively(values, branches).labels_of_difficulty(values).any()
    monkeypatch.setattr(adm, "EXACT_PIXELS", 100)
    assert not decide_adaptively(surveyed(values.flatten()), branches).labels_of_difficulty(values).any()


SIZE = Size(20 * 30, 80 * 120)


def test_budgets_are_parsed() -> None:
    assert parse_allowance("60%") == Allowance(60, "%")
    assert parse_allowance(" 1.5g ") == Allowance(1.5, "G")
    assert parse_allowance(".5%") == Allowance(0.5, "%")


@pytest.mark.parametrize("text", ["", "60", "%", "-1G", "0G", "1e3G", "nanG", "8s", "8 hours"])
def test_invalid_budgets_are_refused(text: str) -> None:
    with fails(UsageError, "Invalid budget"):
        parse_allowance(text)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 1.0])
def test_an_upscale_spends_its_budget(part: float) -> None:
    model = tiny_model("carn")
    costs = model_costs(model)
    least, most = gflops_range(costs, SIZE)
    wanted = least + part * (most - least)
    _, _, outcome = upscale_whole(model, make_image(20, 30), 4, Settings(Budget(wanted), refine=1, tile=11))
    spent = paper_flops(costs, SIZE.lr_pixels, outcome.branch_pixels) / 1e9
    assert spent == pytest.approx(wanted, rel=1e-3) and spent <= wanted * (1 + 1e-9)
    assert heavy_share(costs, SIZE, wanted) == pytest.approx(part)


def test_percent_refers_to_the_original_or_to_all_heavy() -> None:
    costs = model_costs(tiny_model("carn"))
    _, most = gflops_range(costs, SIZE)
    assert to_budget(Allowance(90, "%"), costs, SIZE, None).gflops == pytest.approx(0.9 * most)
    assert to_budget(Allowance(45, "%"), costs, SIZE, 2 * most).gflops == pytest.approx(0.9 * most)


@pytest.mark.parametrize("allowance", [Allowance(1, "%"), Allowance(1e-6, "G")])
@pytest.mark.parametrize("original", [None, 0.03])
def test_a_budget_below_all_light_is_refused_with_the_limit(original: float | None, allowance: Allowance) -> None:
    costs = model_costs(tiny_model("carn"))
    with fails(UsageError, "cannot be met.") as raised:
        to_budget(allowance, costs, SIZE, original)
    limits = re.findall(r"[\d.]+[G%]", raised.value.next_step)
    assert len(limits) == (1 if original is None else 2)
    for limit in limits:
        to_budget(parse_allowance(limit), costs, SIZE, original)


def test_a_budget_above_all_heavy_is_all_heavy() -> None:
    model = tiny_model("carn")
    for allowance in (Allowance(200, "%"), Allowance(1e6, "G")):
        budget = to_budget(allowance, model_costs(model), SIZE, None)
        _, labels, outcome = upscale_whole(model, make_image(20, 30), 4, Settings(budget, refine=9))
        assert bool((labels == 1).all()) and outcome.branch_pixels == (0, SIZE.hr_pixels)


def test_samplers_of_equal_cost_are_all_heavy() -> None:
    spec = replace(tiny_model("carn").spec, samplers=((4,), (4,)))
    costs = model_costs(Pcsr(spec))
    budget = to_budget(Allowance(100, "%"), costs, SIZE, None)
    assert heavy_share(costs, SIZE, budget.gflops) == 1


def test_a_budget_needs_two_branches() -> None:
    with fails(UsageError, "A budget needs a model of two branches, but this one has 3."):
        to_budget(Allowance(1, "G"), model_costs(tiny_model("carn", 3)), SIZE, None)


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.50001, 1.0]) | st.floats(0, 1, width=32), min_size=1), st.floats(0, 1)
)
def test_a_share_is_a_ceiling_and_no_other_cut_comes_closer(values: list[float], share: float) -> None:
    data = np.array(values, np.float32)

    def heavy(cut: float) -> int:
        return int((data > np.float32(cut)).sum())

    possible = [heavy(float(other)) for other in [-1.0, *data]]
    found = heavy(cut_for_share(torch.from_numpy(data), share))
    assert found == max(count for count in possible if count <= share * len(data) + 1e-6)


def run(
    settings: Settings, scale: float = 2, size: tuple[int, int] = (13, 11), branches: int = 2
) -> tuple[Result, Outcome]:
    return upscaled(tiny_model("fsrcnn", branches), make_image(*size), scale, settings)


def masks(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A light and a heavy mask without common pixels."""
    light, heavy = torch.rand(2, *size, generator=torch.Generator().manual_seed(0)) < 0.2
    return light & ~heavy, heavy


@pytest.mark.slow
@examples(0.5)
@given(lengths, lengths, scales, routings, st.sampled_from([2, 3]), st.integers(0, 9), st.booleans())
def test_masks_are_followed_exactly_in_any_tiles(
    height: int, width: int, scale: float, routing: Routing, branches: int, refine: int, of_lr: bool
) -> None:
    if branches == 3 and isinstance(routing, Threshold):
        routing = Tradeoff(0.3)
    lr_size, size = (height, width), hr_size((height, width), scale)
    light, heavy = masks(lr_size if of_lr else size)
    forced = Forced(size, light, heavy)
    tile = max(4, -(-max(lr_size) // 3))
    free, _ = run(Settings(routing, refine=refine), scale, lr_size, branches)
    whole, _ = run(Settings(routing, refine=refine, forced=forced), scale, lr_size, branches)
    tiled, outcome = run(Settings(routing, refine=refine, tile=tile, forced=forced), scale, lr_size, branches)
    if of_lr:
        rows, columns = (nearest_index(lr_size[i], size[i], torch.arange(size[i])) for i in (0, 1))
        light, heavy = light[rows[:, None], columns], heavy[rows[:, None], columns]
    chosen = light | heavy
    assert (whole.labels[light] == 0).all() and (whole.labels[heavy] == branches - 1).all()
    assert torch.equal(whole.labels[~chosen], free.labels[~chosen])
    assert outcome.forced == (int(light.sum()), int(heavy.sum()))
    assert (tiled.labels[light] == 0).all() and (tiled.labels[heavy] == branches - 1).all()
    unforced = reference.upscale(tiny_model("fsrcnn", branches), make_image(*lr_size), scale, routing, refine)
    one, other = (tiled.rgb, tiled.labels), (whole.rgb, whole.labels)
    assert_same(one, other, outcome.decision, unforced.probabilities, tolerance=2e-5)


def test_executed_work_includes_forced_pixels() -> None:
    size = (26, 22)
    light, heavy = masks(size)
    result, outcome = run(Settings(refine=9, forced=Forced(size, light, heavy)))
    pixels = int((result.labels == 1).sum())
    assert outcome.branch_pixels == (size[0] * size[1] - pixels, pixels)
    assert outcome.executed.branches == (size[0] * size[1], pixels)
    assert outcome.executed.classifier == size[0] * size[1]


def test_forced_pixels_do_not_change_the_cut_of_adm() -> None:
    light, heavy = masks((26, 22))
    _, free = run(Settings(Adaptive(), refine=1))
    _, forced = run(Settings(Adaptive(), refine=1, forced=Forced((26, 22), light, heavy)))
    assert forced.decision == free.decision


def test_a_budget_pays_for_forced_pixels_first() -> None:
    heavy = torch.zeros(26, 22, dtype=torch.bool)
    heavy[:5] = True
    _, everything = run(Settings(Threshold(0.0), refine=1))
    _, nothing = run(Settings(Threshold(1.0), refine=1))
    costs = model_costs(tiny_model("fsrcnn"))
    least, most = (paper_flops(costs, 13 * 11, each.branch_pixels) / 1e9 for each in (nothing, everything))
    budget = Budget(gflops=least + 0.5 * (most - least))
    for forced in (None, Forced((26, 22), heavy=heavy), Forced((26, 22), light=heavy)):
        _, outcome = run(Settings(budget, refine=1, forced=forced))
        assert abs(outcome.heavy_share - 0.5) < 0.01


def test_masks_may_exceed_the_budget() -> None:
    for rows in (20, 26):
        heavy = torch.zeros(26, 22, dtype=torch.bool)
        heavy[:rows] = True
        _, outcome = run(Settings(Budget(gflops=1e-6), refine=1, forced=Forced((26, 22), heavy=heavy)))
        assert outcome.branch_pixels[1] == rows * 22


def test_pixels_in_both_masks_are_counted() -> None:
    both = torch.ones(3, 4, dtype=torch.bool)
    one = torch.zeros(6, 8, dtype=torch.bool)
    one[0, :5] = True
    assert Forced((6, 8), both, one).clashes == 5
    assert Forced((6, 8), both).clashes == 0


def test_free_pixels_are_outside_both_masks() -> None:
    light, heavy = masks((6, 8))
    area = Rect(Span(1, 5), Span(2, 8))
    assert torch.equal(Forced((6, 8), light, heavy).free(area), ~(light | heavy)[1:5, 2:8])
