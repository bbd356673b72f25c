"""The paper's FLOPs match its figures; the executed FLOPs match the count of PyTorch."""

from math import prod

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.flop_counter import FlopCounterMode

from pcsr_cli.engine import upscale as passes
from pcsr_cli.engine.fused import backbones, kernels
from pcsr_cli.engine.routing import Cuts, decide_adaptively
from pcsr_cli.engine.rules import Adaptive, Routing, Threshold
from pcsr_cli.engine.upscale import Settings, upscale_whole
from pcsr_cli.model.flops import Executed, ModelCosts, executed_flops, model_costs, original_flops, paper_flops
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.spec import BackboneSpec, ModelSpec
from tests.model.test_backbones import PUBLISHED
from tests.strategies import examples, lengths, routings, routings_of_many, scales
from tests.tiny import BACKBONES, changeable_model, make_image, tiny_model

DEMO_LR = 276 * 420
DEMO_HR = 16 * DEMO_LR
DEMO_GFLOPS = {530_722: 83.906842616, 237_244: 72.863852432, 266_787: 73.975496436, DEMO_HR: 133.72623936}
"""GFLOPs of the demo image by the number of heavy pixels: k = 0, k = 1, ADM, all heavy."""

PAPER_GFLOPS = {
    # The originals at x4, averaged over each test set; rounded to one decimal.
    "Urban100": {"carn": 49.3, "fsrcnn": 19.9, "srresnet": 221.3, "bsrn": 29.1},
    "Test2K": {"carn": 112.0, "fsrcnn": 45.3, "srresnet": 502.9, "bsrn": 66.0},
    "Test4K": {"carn": 457.8, "fsrcnn": 185.3, "srresnet": 2056.2, "bsrn": 270.0},
}


def costs_of(backbone: str) -> ModelCosts:
    with torch.device("meta"):
        return model_costs(Pcsr(PUBLISHED[backbone]))


def paper_per_lr_pixel(backbone: str) -> float:
    cost = original_flops(backbone, 4, 1)
    assert cost is not None
    return cost.paper


class TestPaperConvention:
    def test_carn_costs_what_the_paper_states(self) -> None:
        costs = costs_of("carn")
        assert costs.backbone.paper * DEMO_LR / 1e9 == pytest.approx(54.0697, abs=5e-5)
        assert costs.classifier.paper == 1_360
        assert [branch.paper for branch in costs.branches] == [3_960, 41_588]

    @pytest.mark.parametrize("heavy", DEMO_GFLOPS)
    def test_the_demo_image_costs_the_known_gflops(self, heavy: int) -> None:
        gflops = paper_flops(costs_of("carn"), DEMO_LR, (DEMO_HR - heavy, heavy)) / 1e9
        assert gflops == pytest.approx(DEMO_GFLOPS[heavy], rel=1e-12)

    def test_original_carn_costs_the_known_gflops(self) -> None:
        assert paper_per_lr_pixel("carn") * DEMO_LR / 1e9 == pytest.approx(130.91355648, rel=1e-12)

    @pytest.mark.parametrize(
        ("backbone", "shares"), [("carn", (0.3188, 0.6812)), ("fsrcnn", (0.0900, 0.9100))], ids=str
    )
    def test_backbone_and_samplers_have_the_known_shares(self, backbone: str, shares: tuple[float, float]) -> None:
        routed = costs_of(backbone).routed(4)
        assert [cost / sum(routed) for cost in routed] == pytest.approx(shares, abs=5e-5)

    @pytest.mark.parametrize("images", PAPER_GFLOPS)
    def test_tables_of_originals_imply_the_same_images(self, images: str) -> None:
        # Each figure, up to its rounding, implies how many LR pixels the average image has.
        lowest, highest = 0.0, float("inf")
        for backbone, gflops in PAPER_GFLOPS[images].items():
            per_pixel = paper_per_lr_pixel(backbone)
            lowest = max(lowest, (gflops - 0.051) * 1e9 / per_pixel)
            highest = min(highest, (gflops + 0.051) * 1e9 / per_pixel)
        assert lowest < highest

    @pytest.mark.parametrize(
        ("images", "backbone", "gflops"),
        [
            ("Test2K", "fsrcnn", 8.5),
            ("Test2K", "srresnet", 245.6),
            ("Test4K", "fsrcnn", 32.6),
            ("Test4K", "srresnet", 981.0),
        ],
    )
    def test_tables_of_pcsr_lie_between_all_light_and_all_heavy(
        self, images: str, backbone: str, gflops: float
    ) -> None:
        costs = costs_of(backbone)
        lr_pixels = round(PAPER_GFLOPS[images][backbone] * 1e9 / paper_per_lr_pixel(backbone))
        all_light = paper_flops(costs, lr_pixels, (16 * lr_pixels, 0)) / 1e9
        all_heavy = paper_flops(costs, lr_pixels, (0, 16 * lr_pixels)) / 1e9
        assert all_light < gflops < all_heavy

    def test_fsrcnn_pcsr_costs_a_fifth_in_the_paper_but_executes_more_than_the_original(self) -> None:
        costs, original = costs_of("fsrcnn"), original_flops("fsrcnn", 4, 1_000)
        assert original is not None
        branches = (14_450, 1_550)
        executed = Executed(
            1_000, classifier_shared=1_000, classifier=16_000, branches_shared=(1_000, 1_000), branches=branches
        )
        assert paper_flops(costs, 1_000, branches) / original.paper == pytest.approx(8.5 / 45.3, abs=0.002)
        assert executed_flops(costs, executed) > original.executed

    @pytest.mark.parametrize("backbone", ["carn", "srresnet"])
    def test_other_backbones_execute_less_than_the_original(self, backbone: str) -> None:
        costs, original = costs_of(backbone), original_flops(backbone, 4, 1)
        assert original is not None
        executed = Executed(backbone=1, classifier_shared=1, classifier=16, branches_shared=(1, 1), branches=(12, 4))
        assert executed_flops(costs, executed) < 0.75 * original.executed

    @given(st.integers(0, 1000), st.integers(0, 1000))
    def test_every_heavy_pixel_adds_flops(self, light: int, heavy: int) -> None:
        costs = model_costs(tiny_model("carn"))
        flops = paper_flops(costs, 100, (light + 1, heavy))
        assert paper_flops(costs, 100, (light, heavy + 1)) > flops


def convolution(x: list[int], *others: list[int] | None, out_shape: list[int], **_: object) -> int:
    """FLOPs of oneDNN's convolution. The weight is the second argument, or the third after an addend."""
    weight = next(shape for shape in (others[1], others[0]) if shape is not None and len(shape) == 4)
    return 2 * prod(out_shape) * prod(weight[1:])


def linear(x: list[int], *_: object, out_shape: list[int], **__: object) -> int:
    return 2 * prod(out_shape) * x[-1]


ONEDNN = {
    torch.ops.mkldnn._convolution_pointwise: convolution,
    torch.ops.mkldnn._convolution_pointwise_: convolution,
    torch.ops.mkldnn._linear_pointwise: linear,
}
"""Operators that PyTorch's counter lacks."""


def check_executed(model: Pcsr, lr: Tensor, scale: float, how: Settings) -> float:
    """Check the closed form for a run of the engine against PyTorch's count of the same run, and return it."""
    with FlopCounterMode(display=False, custom_mapping=ONEDNN) as counter:
        _, _, outcome = upscale_whole(model, lr, scale, how)
    executed = executed_flops(model_costs(model), outcome.executed)
    assert executed == counter.get_total_flops()
    return executed


@pytest.fixture(scope="module", autouse=True)
def kmeans_is_not_counted() -> object:
    """Replace ADM's k-means, whose matrix products are not part of the network; run the kernels' self-test before."""
    kernels.onednn_problem(torch.float32)

    def uncounted(values: Tensor, branches: int) -> Cuts:
        with _disable_current_modes():
            return decide_adaptively(values, branches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "decide_adaptively", uncounted)
        yield


class TestExecuted:
    @examples(0.6)
    @given(st.sampled_from(BACKBONES), lengths, lengths, st.integers(1, 4), scales, routings, st.integers(0, 9))
    def test_matches_pytorch(
        self, backbone: str, height: int, width: int, pieces: int, scale: float, routing: Routing, refine: int
    ) -> None:
        how = Settings(routing, refine=refine, tile=-(-max(height, width) // pieces))
        check_executed(tiny_model(backbone), make_image(height, width), scale, how)

    @examples(0.25)
    @given(st.sampled_from(BACKBONES), lengths, lengths, st.integers(1, 4), scales, routings_of_many)
    def test_matches_pytorch_with_three_branches(
        self, backbone: str, height: int, width: int, pieces: int, scale: float, routing: Routing
    ) -> None:
        how = Settings(routing, refine=1, tile=-(-max(height, width) // pieces))
        check_executed(tiny_model(backbone, 3), make_image(height, width), scale, how)

    def test_counts_a_second_encoder_pass(self) -> None:
        check_executed(tiny_model("fsrcnn"), make_image(13, 9), 2, Settings(Adaptive(), refine=1, tile=6, memory=0))

    @pytest.mark.parametrize("backbone", PUBLISHED)
    def test_matches_pytorch_at_published_sizes(self, backbone: str) -> None:
        model = Pcsr(PUBLISHED[backbone]).eval()
        check_executed(model, make_image(6, 5), 4, Settings(refine=1, tile=4))

    @pytest.mark.parametrize("onednn", [True, False], ids=["oneDNN", "plain"])
    @pytest.mark.parametrize("routing", [Threshold(), Adaptive()], ids=repr)
    @pytest.mark.parametrize("backbone", BACKBONES)
    def test_counts_the_work_that_bands_repeat(
        self, backbone: str, routing: Routing, onednn: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, lr, how = changeable_model(backbone), make_image(41, 13), Settings(routing, refine=1, tile=23)
        if not onednn:
            monkeypatch.setattr(kernels, "onednn_usable", lambda _: False)
        in_one = check_executed(model, lr, 2.5, how)
        monkeypatch.setattr(backbones, "BAND_FLOATS", 1)
        in_many = check_executed(model, lr, 2.5, how)
        assert in_many > in_one if backbone in {"carn", "bsrn"} else in_many == in_one

    @examples(0.5)
    @given(st.sampled_from(BACKBONES), lengths, lengths, st.integers(1, 4), scales, routings, st.booleans())
    def test_matches_pytorch_in_any_bands(
        self, backbone: str, height: int, width: int, pieces: int, scale: float, routing: Routing, keep: bool
    ) -> None:
        how = Settings(routing, refine=1, tile=-(-max(height, width) // pieces), memory=None if keep else 0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(backbones, "BAND_FLOATS", 500)
            check_executed(tiny_model(backbone), make_image(height, width), scale, how)

    def test_smaller_tiles_change_the_executed_count_only(self) -> None:
        model, lr = tiny_model("fsrcnn"), make_image(24, 24)
        small, large = (check_executed(model, lr, 2, Settings(refine=1, tile=tile)) for tile in (6, 24))
        assert small > large

    def test_counts_can_be_added(self) -> None:
        one, other = Executed(backbone=1, classifier=2, branches=(3, 4)), Executed(classifier_shared=5)
        assert one + other == other + one == Executed(1, 5, 2, (), (3, 4))
        assert Executed(branches=(1, 2)) + Executed(branches=(10, 20)) == Executed(branches=(11, 22))


@pytest.mark.parametrize(("name", "scale"), [("carn", 2), ("dense", 4), (None, 4)])
def test_originals_exist_for_some_backbones_at_one_scale(name: str | None, scale: float) -> None:
    assert original_flops(name, scale, 100) is None
    assert original_flops("carn", 4, 100) is not None


def test_an_hr_pixel_saves_the_shared_first_layer_only() -> None:
    with torch.device("meta"):
        model = Pcsr(ModelSpec(BackboneSpec("fsrcnn", 8), ((4,), (6, 5)), ()))
    costs = model_costs(model)
    for branch, shared in zip(costs.branches, costs.branches_shared, strict=True):
        # The paper counts C + 4 inputs of the first layer. The executed count shares the C features.
        first = shared.executed / 8 * (8 + 4)
        assert branch.paper == branch.executed + first
    assert costs.classifier.executed == 0, "a classifier without hidden layers has only shared work"
