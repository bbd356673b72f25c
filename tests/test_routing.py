"""Who gets which branch: by a cut, by k, and by ADM as the reference implementation clusters."""

import pytest
import torch
from fast_pytorch_kmeans import KMeans
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from pcsr_cli import routing
from pcsr_cli.errors import UsageError
from pcsr_cli.routing import (
    Adaptive,
    CostRule,
    Cuts,
    Threshold,
    Tradeoff,
    decide,
    decide_adaptively,
    default_routing,
    difficulty,
    tradeoff_cut,
)

CARN_COSTS = (0.3188, 0.6812)

cost_pairs = st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)).map(lambda pair: (min(pair), max(pair)))
useful_k = st.floats(-1, 2)


def two_branches(p_heavy: Tensor) -> Tensor:
    return torch.stack((1 - p_heavy, p_heavy), dim=1)


def random_probabilities(branches: int, seed: int, count: int = 200) -> Tensor:
    return torch.randn(count, branches, generator=torch.Generator().manual_seed(seed)).softmax(dim=1)


class TestThreshold:
    def test_heavy_is_strictly_above_the_cut(self) -> None:
        decision = decide(Threshold(0.5), CARN_COSTS)
        assert decision == Cuts((0.5,))
        assert decision.labels(two_branches(torch.tensor([0.0, 0.5, 0.500001, 1.0]))).tolist() == [0, 0, 1, 1]

    def test_zero_and_one_are_nearly_all_and_none(self) -> None:
        probabilities = two_branches(torch.tensor([0.0, 1e-30, 0.5, 1.0]))
        assert Cuts((0.0,)).labels(probabilities).tolist() == [0, 1, 1, 1]
        assert Cuts((1.0,)).labels(probabilities).tolist() == [0, 0, 0, 0]

    @pytest.mark.parametrize("cut", [-0.1, 1.1, float("nan")])
    def test_is_a_probability(self, cut: float) -> None:
        with pytest.raises(UsageError, match="probability"):
            Threshold(cut)

    def test_cuts_between_two_branches_only(self) -> None:
        with pytest.raises(UsageError, match="3"):
            decide(Threshold(), (1, 2, 3))


class TestTradeoff:
    @pytest.mark.parametrize(
        ("k", "cut"), [(0, 0.5), (1, 0.6812), (2, 0.6812**2 / (0.6812**2 + 0.3188**2)), (-1, 0.3188)]
    )
    def test_k_is_a_cut(self, k: float, cut: float) -> None:
        assert tradeoff_cut(CARN_COSTS, k) == pytest.approx(cut)

    @given(cost_pairs, useful_k, st.integers(0, 1000))
    def test_the_cut_decides_as_the_rule_it_stands_for(self, costs: tuple[float, float], k: float, seed: int) -> None:
        probabilities = random_probabilities(2, seed).double()
        weighed = probabilities / torch.tensor(costs, dtype=torch.float64) ** k
        clear = (weighed[:, 0] / weighed[:, 1] - 1).abs() > 1e-6
        decision = decide(Tradeoff(k), costs)
        assert isinstance(decision, Cuts)
        assert torch.equal(decision.labels(probabilities)[clear], weighed.argmax(dim=1)[clear].byte())

    @given(cost_pairs, useful_k, st.floats(0.001, 1000))
    def test_only_the_ratio_of_costs_matters(self, costs: tuple[float, float], k: float, factor: float) -> None:
        scaled = (costs[0] * factor, costs[1] * factor)
        assert tradeoff_cut(costs, k) == pytest.approx(tradeoff_cut(scaled, k))

    @given(cost_pairs, useful_k, useful_k)
    def test_a_larger_k_is_cheaper(self, costs: tuple[float, float], one: float, other: float) -> None:
        small, large = sorted((one, other))
        assert tradeoff_cut(costs, small) <= tradeoff_cut(costs, large)

    def test_minus_25_sends_everything_to_heavy_and_100_nothing(self) -> None:
        probabilities = two_branches(torch.tensor([1e-6, 0.5, 1 - 1e-6]))
        for k, label in ((-25, 1), (100, 0)):
            decision = decide(Tradeoff(k), CARN_COSTS)
            assert decision is not None
            assert (decision.labels(probabilities) == label).all()

    def test_a_tie_goes_to_light(self) -> None:
        even = torch.full((1, 2), 0.5)
        decision = decide(Tradeoff(0), CARN_COSTS)
        assert decision is not None
        assert decision.labels(even).item() == 0
        assert CostRule((0.2, 0.3, 0.5), 0).labels(torch.full((1, 3), 1 / 3)).item() == 0

    @given(st.integers(0, 1000), useful_k)
    def test_many_branches_weigh_probability_against_cost(self, seed: int, k: float) -> None:
        costs = (1.0, 3.0, 10.0)
        probabilities = random_probabilities(3, seed)
        weighed = probabilities.double() / torch.tensor(costs, dtype=torch.float64) ** k
        best_two = weighed.topk(2).values
        clear = best_two[:, 1] / best_two[:, 0] < 1 - 1e-5
        decision = decide(Tradeoff(k), costs)
        assert isinstance(decision, CostRule)
        assert torch.equal(decision.labels(probabilities)[clear], weighed.argmax(dim=1)[clear].byte())

    @pytest.mark.parametrize("k", [-100, 100])
    def test_extreme_k_stays_finite(self, k: float) -> None:
        labels = CostRule((1e-3, 0.1, 0.899), k).labels(random_probabilities(3, seed=1))
        assert (labels == (0 if k > 0 else 2)).all()

    @pytest.mark.parametrize("k", [-101, 101, float("nan"), float("inf")])
    def test_k_out_of_range_is_refused(self, k: float) -> None:
        with pytest.raises(UsageError, match="out of range"):
            Tradeoff(k)


class TestDifficulty:
    def test_with_two_branches_is_p_heavy(self) -> None:
        p_heavy = torch.tensor([0.1, 0.7])
        assert torch.equal(difficulty(two_branches(p_heavy)), p_heavy)

    @pytest.mark.parametrize(("branches", "heavier"), [(2, 1), (3, 2), (4, 2), (5, 3)])
    def test_sums_over_the_heavier_half(self, branches: int, heavier: int) -> None:
        one_hot = torch.eye(branches)
        assert difficulty(one_hot).tolist() == [0] * (branches - heavier) + [1] * heavier

    @given(st.integers(2, 5), st.integers(0, 100))
    def test_is_a_probability(self, branches: int, seed: int) -> None:
        values = difficulty(random_probabilities(branches, seed))
        assert (values >= 0).all() and (values <= 1 + 1e-6).all()


def test_by_default_a_pixel_goes_where_it_most_probably_belongs() -> None:
    for branches in (2, 3, 5):
        probabilities = random_probabilities(branches, seed=7)
        decision = decide(default_routing(branches), [float(cost) for cost in range(1, branches + 1)])
        assert decision is not None
        assert torch.equal(decision.labels(probabilities), probabilities.argmax(dim=1).byte())


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


DISTRIBUTIONS = ("uniform", "mostly easy", "mostly hard", "two humps", "narrow", "bell")


def published_clusters(values: Tensor) -> Tensor:
    """What the reference implementation does with p_heavy, to the letter: True is heavy."""
    rescaled = (values - values.min()) / (values.max() - values.min())
    kmeans = KMeans(n_clusters=2, max_iter=20, mode="euclidean")
    labels: Tensor = kmeans.fit_predict(rescaled[:, None], centroids=torch.tensor([[0.5]]))
    return labels != labels[rescaled.argmin()]


class TestAdaptive:
    def test_waits_for_the_image(self) -> None:
        assert decide(Adaptive(), CARN_COSTS) is None

    @pytest.mark.parametrize("name", DISTRIBUTIONS)
    def test_clusters_as_the_published_code_does(self, name: str) -> None:
        values = distribution(name, 20_000)
        labels = decide_adaptively(values, 2).labels_of_difficulty(values)
        assert torch.equal(labels.bool(), published_clusters(values))
        assert 0 < labels.float().mean() < 1

    @given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=40))
    def test_clusters_small_pictures_alike(self, numbers: list[float]) -> None:
        values = torch.tensor(numbers)
        assume(values.max() - values.min() > 1e-3)
        cuts = decide_adaptively(values, 2)
        heavy = cuts.labels_of_difficulty(values).bool()
        on_the_cut = (values - cuts.values[0]).abs() < 1e-6
        assert torch.equal(heavy[~on_the_cut], published_clusters(values)[~on_the_cut])

    @given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.integers(2, 4))
    def test_order_and_shape_of_the_pixels_do_not_matter(self, numbers: list[float], branches: int) -> None:
        values = torch.tensor(numbers)
        cuts = decide_adaptively(values, branches)
        assert decide_adaptively(values.view(1, -1), branches) == cuts
        assert decide_adaptively(values.flip(0), branches).values == pytest.approx(cuts.values, abs=1e-6)

    @pytest.mark.parametrize("branches", [2, 3])
    @pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
    def test_a_flat_image_is_all_light(self, level: float, branches: int) -> None:
        values = torch.full((5, 7), level)
        assert not decide_adaptively(values, branches).labels_of_difficulty(values).any()

    @given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.integers(2, 5))
    def test_the_easiest_pixel_is_light_and_branches_ascend_with_difficulty(
        self, numbers: list[float], branches: int
    ) -> None:
        values = torch.tensor(numbers).sort().values
        cuts = decide_adaptively(values, branches)
        labels = cuts.labels_of_difficulty(values).long()
        assert len(cuts.values) == branches - 1
        assert list(cuts.values) == sorted(cuts.values)
        assert labels[0] == 0
        assert (labels.diff() >= 0).all() and int(labels.max()) < branches

    def test_three_clusters_find_three_humps(self) -> None:
        centres = torch.tensor([0.1, 0.5, 0.9]).repeat_interleave(100)
        values = centres + torch.linspace(-0.05, 0.05, 300)
        labels = decide_adaptively(values, 3).labels_of_difficulty(values)
        assert labels.tolist() == [0] * 100 + [1] * 100 + [2] * 100

    @pytest.mark.parametrize("name", DISTRIBUTIONS)
    @pytest.mark.parametrize("count", [400_001, 900_000])
    def test_a_sample_moves_the_cut_by_less_than_a_thousandth(
        self, name: str, count: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        values = distribution(name, count)
        (full,) = decide_adaptively(values, 2).values
        monkeypatch.setattr(routing, "ADM_SAMPLE", 200_000)
        (sampled,) = decide_adaptively(values, 2).values
        assert abs(sampled - full) < 1e-3

    def test_a_sample_is_the_same_every_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(routing, "ADM_SAMPLE", 1000)
        values = distribution("two humps", 12_345)
        assert decide_adaptively(values, 2) == decide_adaptively(values, 2)

    def test_a_sample_keeps_lone_extremes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # The whole range is rescaled by two pixels among ten thousand, which any place in the image may hold.
        values = torch.cat((torch.tensor([0.0]), distribution("narrow", 9_998), torch.tensor([1.0])))
        full = decide_adaptively(values, 2)
        monkeypatch.setattr(routing, "ADM_SAMPLE", 1000)
        assert decide_adaptively(values, 2).values == pytest.approx(full.values, abs=1e-3)

    def test_a_sample_is_not_caught_by_stripes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(routing, "ADM_SAMPLE", 1000)
        stripes = torch.tensor([0.2, 0.8]).repeat(1500)
        labels = decide_adaptively(stripes, 2).labels_of_difficulty(stripes)
        assert labels.float().mean() == 0.5
