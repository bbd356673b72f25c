"""FLOPs of single layers."""

from hypothesis import given
from hypothesis import strategies as st

from pcsr_cli.model.layers import Cost, batch_norm, conv, prelu, transposed_conv

sizes = st.integers(1, 64)
costs = st.builds(Cost, st.integers(0, 10**6), st.integers(0, 10**6))


def test_a_convolution_costs_two_flops_per_multiply_add() -> None:
    assert conv(3, 52, 3) == Cost(2 * 3 * 52 * 9, 2 * 3 * 52 * 9)
    assert conv(56, 10, 1) == Cost(1120, 1120), "a linear layer is a 1x1 convolution"


@given(sizes, sizes, st.sampled_from([1, 3, 5, 9]), st.sampled_from([1, 2, 4]))
def test_groups_divide_the_work(channels_in: int, channels_out: int, kernel: int, groups: int) -> None:
    whole = conv(channels_in * groups, channels_out * groups, kernel)
    assert conv(channels_in * groups, channels_out * groups, kernel, groups) * groups == whole


def test_the_paper_multiplies_a_transposed_convolution_by_its_squared_stride() -> None:
    cost = transposed_conv(56, 3, 9, stride=4)
    assert cost.executed == 2 * 81 * 56 * 3
    assert cost.paper == 16 * cost.executed


def test_activations_and_norms_count_in_the_paper_only() -> None:
    assert prelu(48) == Cost(48, 0)
    assert batch_norm(52) == Cost(104, 0)


@given(costs, costs, st.integers(0, 1000))
def test_costs_can_be_added_and_multiplied(one: Cost, other: Cost, count: int) -> None:
    assert count * (one + other) == one * count + other * count
    assert one + Cost() == one
