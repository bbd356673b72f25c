"""``sweep``: every point equals a separate upscale with its cut."""

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch

from pcsr_cli.engine.rules import Adaptive, Routing, Threshold, Tradeoff
from pcsr_cli.engine.upscale import Settings, predict_branches, upscale_whole
from pcsr_cli.errors import UsageError
from pcsr_cli.evaluate.arguments import parse_grid
from pcsr_cli.evaluate.composition import Composer, patch_mask
from pcsr_cli.evaluate.dataset import Pair
from pcsr_cli.evaluate.metrics import luma, psnr, ssim
from pcsr_cli.evaluate.runner import Conditions
from pcsr_cli.evaluate.sweep import Curve, Meter, Point, check, mean_curve, sweep
from pcsr_cli.model.flops import executed_flops, model_costs, paper_flops
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.registry import Identity, LoadedModel
from pcsr_cli.model.spec import Scales
from tests.failing import fails
from tests.images import levels
from tests.tiny import make_image, tiny_model, tiny_spec

IDENTITY = Identity("tiny", None, "0", "", "", "carn")
MODEL = LoadedModel(tiny_model("carn"), IDENTITY, Scales((4.0,)))
CONDITIONS = Conditions(MODEL, 4, Settings(refine=1))


@pytest.mark.parametrize("refine", [0, 1, 4, 9])
@pytest.mark.parametrize("tile", [None, 9])
@pytest.mark.parametrize("cut", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_a_composed_result_equals_an_upscale(refine: int, tile: int | None, cut: float) -> None:
    model, lr = tiny_model("carn"), make_image(14, 23)
    composer = Composer(predict_branches(model, lr, 4, Settings(refine=refine, tile=tile)), refine)
    settings = Settings(Threshold(cut), refine=refine, tile=tile)
    rgb, labels, outcome = upscale_whole(model, lr, 4, settings, torch.uint8)
    mask = composer.mask(cut)
    assert (mask == (labels > 0)).all()
    difference = np.abs(composer.compose(mask).astype(int) - rgb.numpy())
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3
    assert composer.executed(mask) == outcome.executed


@pytest.mark.parametrize("of_luma", [False, True])
@pytest.mark.parametrize("cut", [0.0, 0.5, 0.9])
def test_the_meter_agrees_with_the_metrics_of_the_composed_result(of_luma: bool, cut: float) -> None:
    composer = Composer(predict_branches(tiny_model("carn"), make_image(14, 23), 4, Settings(refine=1)), 1)
    truth = levels(56, 92, seed=3)
    result = composer.compose(composer.mask(cut))
    measured = Meter(composer, truth, 4, of_luma).measure(composer.mask(cut))
    expected = psnr(luma(result), luma(truth), 4) if of_luma else psnr(result, truth, 4)
    assert measured == pytest.approx((expected, ssim(luma(result), luma(truth), 4)), abs=1e-5)


def a_pair(hr: bool = True) -> Pair:
    lr = (make_image(14, 23)[0].permute(1, 2, 0) * 255).round().byte().numpy()
    return Pair("noise", lr, levels(56, 92, seed=5) if hr else None, 4)


def test_points_equal_separate_upscales() -> None:
    curve = sweep(CONDITIONS, a_pair(), parse_grid("k", "-1:2:1"))
    costs = model_costs(MODEL.network)
    lr = make_image(14, 23).mul(255).round().byte()
    routed: list[tuple[Point, Routing]] = [
        (point, Tradeoff(k)) for point, k in zip(curve.points, (-1, 0, 1, 2), strict=True)
    ]
    for point, routing in [*routed, (curve.adm, Adaptive())]:
        rgb, _, outcome = upscale_whole(MODEL.network, lr, 4, Settings(routing, refine=1), torch.uint8)
        assert point.heavy_share == pytest.approx(outcome.heavy_share)
        assert point.paper == pytest.approx(paper_flops(costs, 14 * 23, outcome.branch_pixels) / 1e9)
        assert point.psnr == pytest.approx(psnr(rgb.numpy(), levels(56, 92, seed=5), 4), abs=1e-4)
        if isinstance(routing, Tradeoff):
            assert point.k == pytest.approx(routing.k, abs=1e-9)
            assert point.executed == pytest.approx(executed_flops(costs, outcome.executed) / 1e9)
    assert (curve.light.heavy_share, curve.heavy.heavy_share) == (0, 1)
    assert curve.original is not None and curve.original.psnr is None


def test_without_hr_results_are_compared_with_all_heavy() -> None:
    curve = sweep(CONDITIONS, a_pair(hr=False), parse_grid("threshold", "0,0.5,1"))
    assert curve.heavy.psnr == math.inf == curve.points[0].psnr
    assert curve.points[0].ssim == pytest.approx(1)
    assert curve.light.psnr < curve.points[1].psnr < math.inf


def test_samplers_of_equal_cost_have_no_k() -> None:
    spec = msgspec.structs.replace(tiny_spec("carn"), samplers=((4,), (4,)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LoadedModel(Pcsr(spec).eval().requires_grad_(False), IDENTITY, Scales((4.0,)))
    curve = sweep(replace(CONDITIONS, model=model), a_pair(), parse_grid("threshold", "0.3,0.5,0.7"))
    assert [point.k for point in curve.points] == [None] * 3 and curve.knee is None


def point(gflops: float, quality: float) -> Point:
    return Point(0.5, 0.0, 0.5, gflops, gflops, quality, 0.9)


def curve_of(*points: Point) -> Curve:
    return Curve("a", points, points[0], points[-1], points[0], None)


def test_the_knee_is_the_point_furthest_above_the_line() -> None:
    bend = point(2, 29)
    assert curve_of(point(1, 20), bend, point(5, 29.5), point(11, 30)).knee == bend
    assert curve_of(point(11, 30), point(5, 29.5), bend, point(1, 20)).knee == bend
    assert curve_of(point(1, 20), point(2, 21), point(3, 22)).knee is None
    assert curve_of(point(1, 20), point(2, math.inf)).knee is None


def test_equal_images_are_counted_beside_the_mean() -> None:
    equal = replace(point(1, 20), psnr=math.inf, equal=1)
    mean = mean_curve([curve_of(point(1, 20), equal), curve_of(equal, equal), curve_of(point(1, 30), equal)])
    assert [(each.psnr, each.equal) for each in mean.points] == [(25, 1), (math.inf, 3)]


def test_the_mean_curve_is_point_by_point() -> None:
    mean = mean_curve([curve_of(point(1, 20), point(2, 30)), curve_of(point(3, 40), replace(point(4, 50), cut=0.6))])
    assert [(p.paper, p.psnr) for p in mean.points] == [(2, 30), (3, 40)]
    assert [p.cut for p in mean.points] == [0.5, None]


@pytest.mark.parametrize(
    ("text", "values"),
    [("0.5", (0.5,)), ("0.9,0.1,", (0.1, 0.9)), ("0:1:0.25", (0, 0.25, 0.5, 0.75, 1)), ("0:0.7:0.3", (0, 0.3, 0.6))],
)
def test_a_grid_is_parsed(text: str, values: tuple[float, ...]) -> None:
    assert parse_grid("threshold", text).values == values


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("threshold", "", "points. Use 1 to"),
        ("threshold", "1:0:0.1", "points. Use 1 to"),
        ("threshold", "0:1:1e-9", "points. Use 1 to"),
        ("threshold", "a:b:c", "Invalid grid"),
        ("threshold", "0:1", "Invalid grid"),
        ("threshold", "0:1:0", "Invalid grid"),
        ("threshold", "nan", "Invalid grid"),
        ("threshold", "0:1.5:0.5", "is out of range."),
        ("threshold", "-0.1", "is out of range."),
        ("k", "0:200:50", "is out of range."),
    ],
)
def test_an_invalid_grid_is_refused(kind: str, text: str, message: str) -> None:
    with fails(UsageError, message):
        parse_grid(kind, text)


def test_a_model_with_three_branches_is_refused() -> None:
    model = tiny_model("carn", 3)
    with fails(UsageError, "A sweep needs a model with two branches, but this model has 3."):
        Composer(predict_branches(model, make_image(9, 9), 4, Settings(refine=1)), 1)
    with fails(UsageError, "A sweep needs a model with two branches, but this model has 3."):
        check(replace(CONDITIONS, model=LoadedModel(model, IDENTITY, Scales((4.0,)))))


def test_untrained_scales_are_refused() -> None:
    with fails(UsageError, "tiny was trained for x4, not x2."):
        check(replace(CONDITIONS, scale=2))


def test_the_hardest_patches_are_heavy_and_the_last_one_in_its_upper_part() -> None:
    difficulty = torch.zeros(4, 6)
    difficulty[:2, 2:4], difficulty[2:, 4:] = 0.9, 0.5
    mask = patch_mask(difficulty, 2, 6)
    assert mask[:2, 2:4].all() and mask[2, 4:].all() and mask.sum() == 6
