"""From features to HR pixels: every pixel as the formula says, whatever the bands and whoever classified it."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pcsr_cli import sampling
from pcsr_cli.grid import hr_size
from pcsr_cli.model import Pcsr
from pcsr_cli.routing import CostRule, Cuts, Decision, difficulty
from pcsr_cli.sampling import Prediction, TileInput, predict, predict_difficulty, region_axes, tile_input
from pcsr_cli.tiles import Rect, Span
from tests.closeness import TIE
from tests.strategies import lengths, scales
from tests.tiny import BACKBONES, picture, tiny_model

CPU = torch.device("cpu")


def whole(height: int, width: int) -> Rect:
    return Rect(Span(0, height), Span(0, width))


def whole_input(model: Pcsr, x: Tensor, scale: float) -> TileInput:
    """The input of a region that is the whole picture."""
    lr_size = (x.shape[2], x.shape[3])
    size = hr_size(lr_size, scale)
    axes = region_axes(lr_size, size, whole(*size), CPU)
    return tile_input(x, model.features(x), whole(*lr_size), whole(*lr_size), axes)


@dataclass(frozen=True)
class Written:
    """The formula written out for every pixel: RGB (M, H, W, 3) of every branch, probabilities (H * W, M)."""

    rgb: Tensor
    probabilities: Tensor


def written_out(model: Pcsr, tile: TileInput) -> Written:
    rows, columns = tile.rows, tile.columns
    height, width = len(rows.nearest), len(columns.nearest)
    feature = tile.features[0][:, rows.nearest][:, :, columns.nearest].permute(1, 2, 0)
    rel_y = rows.rel[:, None, None].expand(height, width, 1)
    rel_x = columns.rel[None, :, None].expand(height, width, 1)
    cell = torch.tensor((rows.cell, columns.cell)).expand(height, width, 2)
    q = torch.cat((feature, rel_y, rel_x, cell), dim=2).flatten(0, 1)
    prediction = model.predict_pixels(q)
    rgb = prediction.rgb.view(-1, height, width, 3) + tile.base.permute(1, 2, 0)
    return Written(rgb, prediction.logits.softmax(dim=1))


def chosen(written: Written, labels: Tensor) -> Tensor:
    """(3, H, W): each pixel from the branch its label names."""
    index = labels.long()[None, :, :, None].expand(1, *labels.shape, 3)
    return written.rgb.gather(0, index)[0].permute(2, 0, 1)


@given(st.sampled_from(BACKBONES), lengths, lengths, scales, st.floats(0, 1))
def test_each_pixel_is_its_own_branchs(backbone: str, height: int, width: int, scale: float, cut: float) -> None:
    model = tiny_model(backbone)
    tile = whole_input(model, picture(height, width), scale)
    written = written_out(model, tile)
    result = predict(model, tile, Cuts((cut,)))
    assert torch.allclose(result.rgb, chosen(written, result.labels), atol=1e-5)
    p_heavy = written.probabilities[:, 1]
    clear = (p_heavy - cut).abs() > TIE
    assert torch.equal(result.labels.flatten()[clear], (p_heavy > cut).byte()[clear])


@pytest.mark.parametrize("decision", [Cuts((0.6, 0.75)), CostRule((0.1, 0.2, 0.7), 0.1)], ids=repr)
def test_three_branches_share_the_pixels(decision: Decision) -> None:
    model = tiny_model("dense", branches=3)
    tile = whole_input(model, picture(14, 11), 2.5)
    written = written_out(model, tile)
    result = predict(model, tile, decision)
    assert set(result.labels.flatten().tolist()) == {0, 1, 2}
    assert torch.allclose(result.rgb, chosen(written, result.labels), atol=1e-5)


@pytest.mark.parametrize("cut", [0.0, 1.0], ids=["all heavy", "all light"])
def test_a_branch_may_get_no_pixel(cut: float) -> None:
    model = tiny_model("carn")
    result = predict(model, whole_input(model, picture(5, 6), 2), Cuts((cut,)))
    assert (result.labels == (cut == 0.0)).all()
    assert result.rgb.isfinite().all()


@pytest.mark.parametrize("branches", [2, 3])
def test_difficulty_is_the_classifiers(branches: int) -> None:
    model = tiny_model("srresnet", branches)
    tile = whole_input(model, picture(8, 9), 3)
    expected = difficulty(written_out(model, tile).probabilities).view(24, 27)
    assert torch.allclose(predict_difficulty(model, tile), expected, atol=1e-6)


@pytest.mark.parametrize("branches", [2, 3])
def test_a_known_difficulty_gives_the_same_and_spares_the_classifier(branches: int) -> None:
    model = tiny_model("fsrcnn", branches)
    tile = whole_input(model, picture(13, 10), 2)
    known = predict_difficulty(model, tile)
    cuts = Cuts((0.6, 0.75)[: branches - 1])
    again = predict(model, tile, cuts)
    calls: list[object] = []
    handle = model.classifier.imnet.register_forward_hook(lambda *_: calls.append(_))
    spared = predict(model, tile, cuts, known)
    handle.remove()
    assert_equal(spared, again)
    assert not calls


@pytest.mark.parametrize("band", [1, 7, 100, 10**6])
def test_bands_do_not_show(band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("carn")
    tile = whole_input(model, picture(9, 7), 3)
    before, known = predict(model, tile, Cuts((0.5,))), predict_difficulty(model, tile)
    monkeypatch.setattr(sampling, "BAND_PIXELS", band)
    after = predict(model, tile, Cuts((0.5,)))
    assert torch.equal(after.labels, before.labels)
    assert torch.allclose(after.rgb, before.rgb, atol=1e-6)
    assert torch.allclose(predict_difficulty(model, tile), known, atol=1e-6)


def test_part_of_a_picture_is_that_part() -> None:
    model, x, lr_size, size = tiny_model("dense"), picture(20, 24), (20, 24), (50, 60)
    everything = predict(model, whole_input(model, x, 2.5), Cuts((0.5,)))
    region = Rect(Span(11, 30), Span(20, 47))
    axes = region_axes(lr_size, size, region, CPU)
    sampled = Rect(Span(4, 12), Span(8, 19))
    seen = Rect(Span(2, 14), Span(6, 21))
    features = model.features(x)[:, :, *sampled.slices]
    tile = tile_input(x[:, :, *seen.slices], features, seen, sampled, axes)
    part = predict(model, tile, Cuts((0.5,)))
    assert torch.equal(part.labels, everything.labels[region.slices])
    assert torch.allclose(part.rgb, everything.rgb[:, *region.slices], atol=1e-6)


def test_results_are_summed_in_float32() -> None:
    model = tiny_model("fsrcnn")
    result = predict(model, whole_input(model, picture(4, 4), 2), Cuts((0.5,)))
    assert result.rgb.dtype == torch.float32
    assert result.labels.dtype == torch.uint8


def assert_equal(one: Prediction, other: Prediction) -> None:
    assert torch.equal(one.labels, other.labels)
    assert torch.equal(one.rgb, other.rgb)
