"""Who gets which branch: by a cut or by k. What ADM decides is told in test_adm.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pcsr_cli.engine.routing import (
    Adaptive,
    Budget,
    CostRule,
    Cuts,
    Threshold,
    Tradeoff,
    decide,
    default_routing,
    difficulty,
    tradeoff_cut,
)
from pcsr_cli.errors import UsageError, in_full
from tests.failing import fails

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
        with fails(UsageError, f"The threshold {in_full(cut)} is not a probability."):
            Threshold(cut)

    def test_cuts_between_two_branches_only(self) -> None:
        with fails(UsageError, "A threshold needs a model of two branches, but this one has 3."):
            decide(Threshold(), (1, 2, 3))
        with fails(UsageError, "A budget needs a model of two branches, but this one has 3."):
            decide(Budget(gflops=1), (1, 2, 3))


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
        with fails(UsageError, f"k = {in_full(k)} is out of range."):
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


def test_adm_waits_for_the_image() -> None:
    assert decide(Adaptive(), CARN_COSTS) is None
