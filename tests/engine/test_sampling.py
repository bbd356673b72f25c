"""Each HR pixel follows the formula in any bands and chunks."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from pcsr_cli.engine import sampling
from pcsr_cli.engine.fused import PreparedModel
from pcsr_cli.engine.grid import bilinear, make_axis
from pcsr_cli.engine.routing import CostRule, Cuts, Decision, difficulty
from pcsr_cli.engine.sampling import AreaSampler, FeatureBand
from pcsr_cli.engine.tiles import Rect, Span, TilePlan, plan_tiles
from pcsr_cli.model.network import Pcsr
from tests.closeness import TIE
from tests.strategies import lengths, scales
from tests.tiny import BACKBONES, make_image, tiny_model

CPU = torch.device("cpu")


def whole_plan(lr: Tensor, scale: float) -> TilePlan:
    """A plan of one tile."""
    return plan_tiles((lr.shape[2], lr.shape[3]), scale, tile=(1000, 1000), halo=1, ring=0)


@dataclass(frozen=True)
class Result:
    """``rgb`` (3, H, W) and ``labels`` (H, W) of an area, from all its bands."""

    rgb: Tensor
    labels: Tensor


class Case:
    """An image with its features, in bands that end at ``cuts``."""

    def __init__(self, model: Pcsr, lr: Tensor, scale: float, cuts: Sequence[int] = ()) -> None:
        self.model, self.lr, self.plan = model, lr, whole_plan(lr, scale)
        self.features = model.features(model.normalise(lr))
        edges = [0, *cuts, lr.shape[2]]
        self.bands = [
            FeatureBand(Span(start, stop), self.features[:, :, start:stop]) for start, stop in itertools.pairwise(edges)
        ]

    def sampler(self, area: Rect | None = None) -> AreaSampler:
        tile = self.plan.tiles[0]
        return AreaSampler(PreparedModel(self.model), self.plan, tile, area or tile.core, self.lr)

    def predict(self, decision: Decision, area: Rect | None = None) -> Result:
        sampler = self.sampler(area)
        parts = [part for band in self.bands for part in sampler.predict(band, decision)]
        labels = [part.labels for part in parts if part.labels is not None]
        for part, chosen in zip(parts, labels, strict=True):
            assert part.rows.length == chosen.shape[0]
        starts, stops = [part.rows.start for part in parts], [part.rows.stop for part in parts]
        assert starts[1:] == stops[:-1], "rows should be complete and in order"
        result = Result(torch.cat([part.rgb for part in parts], dim=1), torch.cat(labels))
        heavier = [int((result.labels == branch).sum()) for branch in range(1, self.model.spec.branches)]
        assert sampler.executed.branches == (result.labels.numel(), *heavier)
        return result

    def difficulties(self) -> Tensor:
        sampler = self.sampler()
        return torch.cat([values for band in self.bands for values in sampler.difficulties(band)])

    def written_out(self) -> tuple[Tensor, Tensor]:
        """The formula for every pixel: RGB (M, 3, H, W) of every branch, probabilities (M, H, W)."""
        (lr_height, lr_width), (height, width) = self.plan.lr_size, self.plan.hr_size
        rows, columns = make_axis(lr_height, height, 0, height, CPU), make_axis(lr_width, width, 0, width, CPU)
        feature = self.features[0][:, rows.nearest][:, :, columns.nearest].permute(1, 2, 0)
        rel_y = rows.rel[:, None, None].expand(height, width, 1)
        rel_x = columns.rel[None, :, None].expand(height, width, 1)
        cell = torch.tensor((rows.cell, columns.cell)).expand(height, width, 2)
        q = torch.cat((feature, rel_y, rel_x, cell), dim=2).flatten(0, 1)
        residuals, logits = torch.stack([sampler(q) for sampler in self.model.samplers]), self.model.classifier(q)
        residual = (residuals * torch.tensor(self.model.spec.std)).view(-1, height, width, 3)
        rgb = residual.permute(0, 3, 1, 2) + bilinear(self.lr, rows, columns)[0]
        return rgb, logits.softmax(dim=1).T.view(-1, height, width)


def chosen(rgb: Tensor, labels: Tensor) -> Tensor:
    """(3, H, W): each pixel from the branch its label names."""
    index = labels.long().expand(1, 3, *labels.shape)
    return rgb.gather(0, index)[0]


@example("carn", 5, 6, 2, 0.0)
@example("carn", 5, 6, 2, 1.0)
@given(st.sampled_from(BACKBONES), lengths, lengths, scales, st.floats(0, 1))
def test_each_pixel_comes_from_its_branch(backbone: str, height: int, width: int, scale: float, cut: float) -> None:
    case = Case(tiny_model(backbone), make_image(height, width), scale)
    rgb, probabilities = case.written_out()
    result = case.predict(Cuts((cut,)))
    assert (result.rgb.dtype, result.labels.dtype) == (torch.float32, torch.uint8)
    assert torch.allclose(result.rgb, chosen(rgb, result.labels), atol=1e-5)
    p_heavy = probabilities[1]
    clear = (p_heavy - cut).abs() > TIE
    assert torch.equal(result.labels[clear], (p_heavy > cut).byte()[clear])


@pytest.mark.parametrize("decision", [Cuts((0.6, 0.75)), CostRule((0.1, 0.2, 0.7), 0.1)], ids=repr)
def test_three_branches_share_the_pixels(decision: Decision) -> None:
    case = Case(tiny_model("dense", branches=3), make_image(14, 11), 2.5)
    rgb, _ = case.written_out()
    result = case.predict(decision)
    assert set(result.labels.flatten().tolist()) == {0, 1, 2}
    assert torch.allclose(result.rgb, chosen(rgb, result.labels), atol=1e-5)


@pytest.mark.parametrize("branches", [2, 3])
def test_difficulty_matches_the_classifier(branches: int) -> None:
    case = Case(tiny_model("srresnet", branches), make_image(8, 9), 3, cuts=(3, 4))
    _, probabilities = case.written_out()
    assert torch.allclose(case.difficulties(), difficulty(probabilities), atol=1e-6)


@pytest.mark.parametrize("branches", [2, 3])
def test_difficulty_and_prediction_choose_the_same_branches(branches: int) -> None:
    case, cuts = Case(tiny_model("fsrcnn", branches), make_image(13, 10), 2), Cuts((0.6, 0.75)[: branches - 1])
    assert torch.equal(cuts.labels_of_difficulty(case.difficulties()), case.predict(cuts).labels)


@pytest.mark.parametrize("chunk", [1, 7, 100, 10**6])
def test_chunks_do_not_change_the_result(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tiny_model("carn"), make_image(9, 7), 3)
    before, known = case.predict(Cuts((0.5,))), case.difficulties()
    monkeypatch.setattr(sampling, "CHUNK_PIXELS", chunk)
    monkeypatch.setattr(sampling, "PIECE_PIXELS", chunk // 2)
    after = case.predict(Cuts((0.5,)))
    assert torch.equal(after.labels, before.labels)
    assert torch.allclose(after.rgb, before.rgb, atol=1e-6)
    assert torch.allclose(case.difficulties(), known, atol=1e-6)


@given(st.integers(2, 30), lengths, scales, st.data())
def test_bands_do_not_change_the_result(height: int, width: int, scale: float, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, height - 1), max_size=5)))
    model, lr = tiny_model("dense"), make_image(height, width)
    whole, banded = (Case(model, lr, scale, at).predict(Cuts((0.5,))) for at in ((), cuts))
    same = whole.labels == banded.labels
    assert same.float().mean() > 0.999
    assert torch.allclose(whole.rgb[:, same], banded.rgb[:, same], atol=1e-6)


@given(st.integers(1, 40), scales, st.data())
def test_bands_cover_each_row_of_the_result_once(height: int, scale: float, data: st.DataObject) -> None:
    plan = whole_plan(make_image(height, 2), scale)
    edges = [0, *sorted(data.draw(st.sets(st.integers(0, height), max_size=5))), height]
    spans = [plan.hr_rows(Span(start, stop)) for start, stop in itertools.pairwise(edges)]
    rows = [row for span in spans for row in range(span.start, span.stop)]
    assert rows == list(range(plan.hr_size[0]))
    nearest = make_axis(height, plan.hr_size[0], 0, plan.hr_size[0], CPU).nearest.tolist()
    for (start, stop), span in zip(itertools.pairwise(edges), spans, strict=True):
        assert all(start <= nearest[row] < stop for row in range(span.start, span.stop))


def test_part_of_an_image_equals_that_part_of_the_whole() -> None:
    model, lr = tiny_model("dense"), make_image(20, 24)
    case = Case(model, lr, 2.5)
    everything = case.predict(Cuts((0.5,)))
    area, sampled = Rect(Span(11, 30), Span(20, 47)), Rect(Span(4, 12), Span(8, 19))
    window = Rect(Span(2, 14), Span(6, 21))
    tile = replace(case.plan.tiles[0], region=area, sampled=sampled, input=window)
    sampler = AreaSampler(PreparedModel(model), case.plan, tile, area, lr[:, :, *window.slices])
    (part,) = sampler.predict(FeatureBand(sampled.rows, case.features[:, :, *sampled.slices]), Cuts((0.5,)))
    assert part.rows == area.rows
    assert part.labels is not None and torch.equal(part.labels, everything.labels[area.slices])
    assert torch.allclose(part.rgb, everything.rgb[:, *area.slices], atol=1e-6)


def test_rows_outside_the_area_are_skipped() -> None:
    case = Case(tiny_model("dense"), make_image(10, 6), 2, cuts=(3,))
    sampler = case.sampler(Rect(Span(8, 20), Span(0, 12)))
    assert not list(sampler.predict(case.bands[0], Cuts((0.5,))))
    assert not list(sampler.difficulties(case.bands[0]))
