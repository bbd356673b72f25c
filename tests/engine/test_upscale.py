"""The engine follows the formula in any tiles and reports the executed work."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pcsr_cli.engine import memory
from pcsr_cli.engine import routing as adm
from pcsr_cli.engine import upscale as upscaling
from pcsr_cli.engine.fused import PreparedModel, kernels
from pcsr_cli.engine.fused.rows import Ledger
from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.routing import Cuts, DifficultySurvey, Forced
from pcsr_cli.engine.rules import ALL_HEAVY, ALL_LIGHT, Adaptive, Routing, Threshold, Tradeoff
from pcsr_cli.engine.upscale import (
    HrRows,
    Outcome,
    Settings,
    Upscaling,
    predict_branches,
    survey_difficulties,
    upscale,
    upscale_whole,
)
from pcsr_cli.errors import ModelError
from pcsr_cli.model.backbones.dense import DenseBackbone
from pcsr_cli.model.flops import Executed
from pcsr_cli.model.network import Pcsr
from tests import reference
from tests.closeness import assert_same
from tests.failing import fails
from tests.strategies import examples, lengths, routings, routings_of_many, scales
from tests.tiny import BACKBONES, LOCAL, changeable_model, lowered, make_image, tiny_model
from tests.tiny import upscaled as run

WHOLE = 1_000
"""A tile size larger than any image here."""

SHORT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 5.56 GB, max allowed: 6.80 GB)."),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    MemoryError(),
)
"""The errors that devices raise when memory runs out."""


def assert_follows_formula(model: Pcsr, lr: Tensor, scale: float, how: Settings) -> None:
    before = lr.clone()
    result, outcome = run(model, lr, scale, how)
    assert torch.equal(lr, before)
    assert_counted(outcome, result.labels)
    expected = reference.upscale(model, lr, scale, how.routing, how.refine)
    one, other = (result.rgb, result.labels), (expected.rgb, expected.labels)
    assert_same(one, other, outcome.decision, expected.probabilities)


def assert_counted(outcome: Outcome, labels: Tensor) -> None:
    """The outcome must count the pixels of the result by branch."""
    counts = torch.bincount(labels.flatten().long(), minlength=len(outcome.branch_pixels)).tolist()
    assert outcome.branch_pixels == tuple(counts)
    assert outcome.heavy_share == pytest.approx(counts[-1] / labels.numel())
    assert outcome.plan.hr_size == tuple(labels.shape)


@pytest.mark.parametrize("routing", [Threshold(0.4), Tradeoff(0.5), Adaptive()], ids=repr)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 1.5, 2.5, 3.7])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_result_follows_the_formula(backbone: str, scale: float, routing: Routing) -> None:
    assert_follows_formula(tiny_model(backbone), make_image(17, 30), scale, Settings(routing, refine=1, tile=9))


@pytest.mark.parametrize("routing", [Tradeoff(0.5), Adaptive()], ids=repr)
@pytest.mark.parametrize("scale", [2, 2.5])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_three_branches_follow_the_formula(backbone: str, scale: float, routing: Routing) -> None:
    assert_follows_formula(
        tiny_model(backbone, branches=3), make_image(13, 22), scale, Settings(routing, refine=1, tile=7)
    )


@pytest.mark.parametrize("refine", range(10))
def test_every_strength_of_refinement_follows_the_formula(refine: int) -> None:
    assert_follows_formula(tiny_model("dense"), make_image(15, 12), 3, Settings(Threshold(), refine=refine, tile=4))


@pytest.mark.parametrize("routing", [Threshold(), Tradeoff(1), Adaptive()], ids=repr)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2)], ids=str)
@pytest.mark.parametrize("scale", [1, 1.5, 4])
def test_smallest_images_follow_the_formula(scale: float, size: tuple[int, int], routing: Routing) -> None:
    assert_follows_formula(tiny_model("carn"), make_image(*size), scale, Settings(routing, refine=1))


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("routing", [Threshold(), Adaptive()], ids=repr)
def test_flat_images_follow_the_formula(routing: Routing, level: float) -> None:
    assert_follows_formula(
        tiny_model("fsrcnn"), torch.full((1, 3, 12, 9), level), 2, Settings(routing, refine=1, tile=5)
    )


def assert_tiling_changes_nothing(
    backbone: str, branches: int, size: tuple[int, int], pieces: int, scale: float, routing: Routing, refine: int
) -> None:
    model, lr = tiny_model(backbone, branches), make_image(*size, seed=pieces)
    tile = -(-max(size) // pieces)
    whole, _ = run(model, lr, scale, Settings(routing, refine=refine, tile=WHOLE))
    tiled, outcome = run(model, lr, scale, Settings(routing, refine=refine, tile=tile))
    assert_counted(outcome, tiled.labels)
    expected = reference.upscale(model, lr, scale, routing, refine)
    assert_same((tiled.rgb, tiled.labels), (whole.rgb, whole.labels), outcome.decision, expected.probabilities)


@pytest.mark.slow
@examples(2)
@given(st.sampled_from(BACKBONES), lengths, lengths, st.integers(2, 5), scales, routings, st.integers(0, 9))
def test_tiled_equals_whole(
    backbone: str, height: int, width: int, pieces: int, scale: float, routing: Routing, refine: int
) -> None:
    assert_tiling_changes_nothing(backbone, 2, (height, width), pieces, scale, routing, refine)


@pytest.mark.slow
@examples(0.5)
@given(st.sampled_from(BACKBONES), lengths, lengths, st.integers(2, 4), scales, routings_of_many, st.integers(0, 9))
def test_tiled_equals_whole_with_three_branches(
    backbone: str, height: int, width: int, pieces: int, scale: float, routing: Routing, refine: int
) -> None:
    assert_tiling_changes_nothing(backbone, 3, (height, width), pieces, scale, routing, refine)


@pytest.mark.slow
@examples(1.5)
@given(
    st.sampled_from(BACKBONES),
    st.integers(0, 150).map(lambda half: 2 * half + 1),
    st.integers(1, 200),
    st.integers(2, 6),
    scales,
    routings,
    st.integers(0, 9),
)
def test_tiled_equals_whole_at_real_sizes(
    backbone: str, height: int, width: int, pieces: int, scale: float, routing: Routing, refine: int
) -> None:
    assert_tiling_changes_nothing(backbone, 2, (height, width), pieces, scale, routing, refine)


@pytest.mark.parametrize("backbone", LOCAL)
def test_the_halo_is_exactly_as_wide_as_needed(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A NaN marks all pixels that depend on it. The first row of the second tile is the last of them.
    # The ReLU of oneDNN turns NaN into 0, so the test uses the plain operations.
    monkeypatch.setattr(kernels, "onednn_usable", lambda _: False)
    monkeypatch.setattr(upscaling._Passes, "_raise_if_not_finite", lambda _: None)
    model = changeable_model(backbone)
    radius, how = model.encoder.receptive_radius, Settings(refine=9, tile=45)
    assert radius is not None
    lr = torch.zeros(1, 3, 90, 3)
    lr[:, :, 45 - radius] = torch.nan
    whole, _ = run(model, lr, 1, Settings(refine=9, tile=WHOLE))
    tiled, _ = run(model, lr, 1, how)
    assert whole.rgb[:, 45].isnan().all()
    assert torch.equal(tiled.rgb.isnan(), whole.rgb.isnan())
    monkeypatch.setattr(model.encoder, "receptive_radius", radius - 1, raising=False)
    narrower, _ = run(model, lr, 1, how)
    assert narrower.rgb[:, 45].isfinite().all()


def test_one_tile_without_refinement_repeats_no_pixel() -> None:
    _, outcome = run(tiny_model("dense"), make_image(10, 8), 2, Settings(refine=9, tile=WHOLE))
    heavy = outcome.branch_pixels[1]
    assert outcome.executed == Executed(
        backbone=80,
        classifier_shared=80,
        classifier=320,
        branches_shared=(80, 80),
        branches=(320, heavy),
    )


def test_adm_computes_features_again_where_they_do_not_fit() -> None:
    model, lr = tiny_model("dense"), make_image(20, 16)
    _, once_outcome = run(model, lr, 2, Settings(Adaptive(), refine=1, tile=WHOLE))
    assert (once_outcome.executed.backbone, once_outcome.executed.classifier) == (320, 1280)
    kept, kept_outcome = run(model, lr, 2, Settings(Adaptive(), refine=1, tile=8))
    again, again_outcome = run(model, lr, 2, Settings(Adaptive(), refine=1, tile=8, memory=0))
    assert torch.equal(kept.rgb, again.rgb)
    assert again_outcome.executed.backbone == 2 * kept_outcome.executed.backbone


@pytest.mark.parametrize("routing", [Threshold(), Adaptive()], ids=repr)
def test_progress_rises_to_one_in_even_steps(routing: Routing) -> None:
    shares: list[float] = []
    settings = Settings(routing, refine=1, tile=6)
    upscale_whole(tiny_model("fsrcnn"), make_image(12, 12), 2, settings, progress=shares.append)
    steps = len(shares)
    assert steps == (8 if isinstance(routing, Adaptive) else 4)
    assert shares == pytest.approx([(index + 1) / steps for index in range(steps)])


@pytest.mark.parametrize("branches", [2, 3])
@pytest.mark.parametrize(("routing", "share"), [(ALL_LIGHT, 0), (ALL_HEAVY, 1)], ids=["all light", "all heavy"])
def test_single_branch_routing_ignores_a_saturated_classifier(routing: Routing, share: float, branches: int) -> None:
    model = changeable_model("fsrcnn", branches)
    sure = model.classifier.imnet.layers[-1]
    assert isinstance(sure, torch.nn.Linear)
    sure.weight.data *= 10_000
    sure.bias.data *= 10_000
    _, saturated = run(model, make_image(12, 10), 2, Settings(Tradeoff(-100), refine=1))
    assert 0 < saturated.heavy_share < 1, "the classifier should saturate"
    assert run(model, make_image(12, 10), 2, Settings(routing, refine=1))[1].heavy_share == share


def test_bytes_are_rounded_and_clamped_floats() -> None:
    model, lr = tiny_model("fsrcnn"), 3 * make_image(9, 11) - 1
    floats, _ = run(model, lr, 3, Settings(refine=1, tile=5))
    assert floats.rgb.min() < 0 < 1 < floats.rgb.max(), "the case should need clamping"
    rgb, labels, _ = upscale_whole(model, lr, 3, Settings(refine=1, tile=5), torch.uint8)
    assert torch.equal(rgb, (floats.rgb * 255).round().clamp(0, 255).permute(1, 2, 0).byte())
    assert torch.equal(labels, floats.labels)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.08)], ids=str)
@pytest.mark.parametrize("cut", [0.0, 1.0], ids=["all heavy", "all light"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_half_precision_is_close_to_full_precision(
    backbone: str, cut: float, dtype: torch.dtype, tolerance: float
) -> None:
    lr, how = make_image(14, 11), Settings(Threshold(cut), refine=1, tile=6)
    full, _ = run(tiny_model(backbone), lr, 2.5, how)
    half, _ = run(lowered(tiny_model(backbone), dtype), lr, 2.5, how)
    assert half.rgb.dtype == torch.float32
    assert (half.rgb - full.rgb).abs().max() < tolerance
    assert not torch.equal(half.rgb, full.rgb), "the weights should have been rounded"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("routing", [Threshold(), Tradeoff(1), Adaptive()], ids=repr)
def test_half_precision_changes_few_branches(routing: Routing, dtype: torch.dtype) -> None:
    lr = make_image(30, 30)
    full, _ = run(tiny_model("carn"), lr, 2, Settings(routing, refine=1))
    half, _ = run(lowered(tiny_model("carn"), dtype), lr, 2, Settings(routing, refine=1))
    assert (half.labels != full.labels).float().mean() < 0.05


@pytest.mark.parametrize(("dtype", "peak"), [(torch.uint8, 255), (torch.uint16, 65_535)], ids=str)
@pytest.mark.parametrize("routing", [Threshold(), Adaptive()], ids=repr)
def test_integer_images_equal_float_images(routing: Routing, dtype: torch.dtype, peak: int) -> None:
    levels = torch.randint(0, peak + 1, (1, 3, 11, 9), generator=torch.Generator().manual_seed(0))
    of_integers, _ = run(tiny_model("fsrcnn"), levels.to(dtype), 2, Settings(routing, refine=1, tile=6))
    of_floats, _ = run(tiny_model("fsrcnn"), levels.float() / peak, 2, Settings(routing, refine=1, tile=6))
    assert torch.equal(of_integers.rgb, of_floats.rgb)


class TestRows:
    """Rows are complete, in order and as wide as the image."""

    @pytest.mark.slow
    @examples(0.5)
    @given(st.sampled_from(BACKBONES), lengths, lengths, st.integers(1, 4), scales, routings, st.integers(0, 9))
    def test_rows_equal_the_whole_bit_for_bit(
        self, backbone: str, height: int, width: int, pieces: int, scale: float, routing: Routing, refine: int
    ) -> None:
        model, lr = tiny_model(backbone), make_image(height, width)
        how = Settings(routing, refine=refine, tile=-(-max(height, width) // pieces))
        whole, labels, outcome = upscale_whole(model, lr, scale, how, torch.uint8)
        upscaling = upscale(model, lr, scale, how, dtype=torch.uint8)
        rows = list(upscaling)
        assert torch.equal(torch.cat([block.rgb for block in rows]), whole)
        assert torch.equal(torch.cat([block.labels for block in rows]), labels)
        assert upscaling.outcome == outcome
        assert len(rows) == len(outcome.plan.strips)

    @pytest.mark.parametrize("routing", [Threshold(), Adaptive()], ids=repr)
    @pytest.mark.parametrize("backbone", BACKBONES)
    def test_strips_equal_the_whole(self, backbone: str, routing: Routing, monkeypatch: pytest.MonkeyPatch) -> None:
        model, lr, how = tiny_model(backbone), make_image(50, 30), Settings(routing, refine=1)
        whole, _ = run(model, lr, 2, how)
        monkeypatch.setattr(memory, "MIN_STRIP_ROWS", 1)
        monkeypatch.setattr(memory, "STRIP_BYTES", 4 * 60 * 40)
        strips = [rows.rgb for rows in upscale(model, lr, 2, how, dtype=torch.uint8)]
        assert [len(strip) for strip in strips] == [32, 34, 34]
        # Strips add up in another order, so a value may be rounded to the next level.
        difference = torch.cat(strips).float() - (whole.rgb * 255).round().clamp(0, 255).permute(1, 2, 0)
        assert difference.abs().max() <= 1
        assert (difference != 0).float().mean() < 0.001

    def test_blocks_are_small_and_own_their_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(upscaling, "BLOCK_BYTES", 2 * 20 * 3)
        model, lr, how = tiny_model("dense"), make_image(7, 10), Settings(refine=1)
        blocks = list(upscale(model, lr, 2, how, dtype=torch.uint8, p_heavy=True))
        assert [len(block.rgb) for block in blocks] == [2] * 7
        for block in blocks:
            assert block.p_heavy is not None
            for part in (block.rgb, block.labels, block.p_heavy):
                assert part.untyped_storage().nbytes() == part.numel() * part.itemsize

    def test_rows_are_computed_on_demand(self) -> None:
        shares: list[float] = []
        rows = upscale(
            tiny_model("dense"), make_image(12, 12), 2, Settings(Threshold(0), refine=9, tile=6), progress=shares.append
        )
        assert isinstance(rows.decision, Cuts) and not shares
        next(rows).rgb.add_(1)  # rows can be modified
        assert shares[-1] == 0.5
        next(rows)
        with pytest.raises(StopIteration):
            next(rows)

    def test_a_repeated_tile_is_returned_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, lr, how = tiny_model("dense"), make_image(24, 30), Settings(refine=1, tile=12)
        smooth, _, _ = upscale_whole(model, lr, 2, how, torch.uint8)
        refused = _refuse_larger_than(monkeypatch, 300)
        strips = [rows.rgb for rows in upscale(model, lr, 2, how, dtype=torch.uint8)]
        assert refused, "the test should refuse a crop"
        assert [len(strip) for strip in strips] == [24, 24]
        assert (torch.cat(strips).int() - smooth.int()).abs().max() <= 1


class TestProbabilities:
    """Rows contain p_heavy on request, and it agrees with the branches."""

    SIZE = hr_size((17, 23), 2.5)

    def rows(self, branches: int, settings: Settings) -> tuple[Upscaling, Tensor, Tensor]:
        model, lr = tiny_model("fsrcnn", branches), make_image(17, 23)
        upscaling = upscale(model, lr, 2.5, settings, p_heavy=True)
        rows = list(upscaling)
        values = [block.p_heavy for block in rows if block.p_heavy is not None]
        return upscaling, torch.cat(values), torch.cat([block.labels for block in rows])

    @pytest.mark.parametrize("refine", [1, 9])
    @pytest.mark.parametrize("tile", [None, 8])
    @pytest.mark.parametrize(
        ("branches", "routing"),
        [(2, Threshold(0.5)), (2, Threshold(0.2)), (2, Tradeoff(1)), (2, Adaptive()), (3, Adaptive())],
        ids=str,
    )
    def test_labels_follow_from_p_heavy_and_the_cuts(
        self, branches: int, routing: Routing, tile: int | None, refine: int
    ) -> None:
        upscaling, values, labels = self.rows(branches, Settings(routing, refine=refine, tile=tile))
        assert isinstance(upscaling.decision, Cuts)
        assert torch.equal(labels, upscaling.decision.labels_of_difficulty(values))
        assert 0 < (labels > 0).float().mean() < 1, "the case should have both kinds of pixels"

    @pytest.mark.parametrize("tile", [None, 8])
    def test_p_heavy_matches_predict_branches(self, tile: int | None) -> None:
        how = Settings(refine=1, tile=tile)
        explored = predict_branches(tiny_model("fsrcnn"), make_image(17, 23), 2.5, how)
        assert torch.allclose(self.rows(2, how)[1], explored.difficulty, atol=1e-6)

    def test_forced_pixels_keep_their_p_heavy(self) -> None:
        heavy = torch.zeros(*self.SIZE, dtype=torch.bool)
        heavy[3:9] = True
        _, free, _ = self.rows(2, Settings(refine=1, tile=8))
        _, values, labels = self.rows(2, Settings(refine=1, tile=8, forced=Forced(self.SIZE, heavy=heavy)))
        assert (labels[heavy] == 1).all() and torch.equal(values, free)

    def test_p_heavy_is_absent_by_default(self) -> None:
        rows: HrRows = next(upscale(tiny_model("dense"), make_image(4, 4), 2, Settings(refine=1)))
        assert rows.p_heavy is None


class TestRetries:
    """A tile is repeated if it exceeds the memory or the range of half precision."""

    @pytest.mark.parametrize("error", SHORT_OF_MEMORY, ids=lambda error: f"{type(error).__name__} {error}"[:40])
    @pytest.mark.parametrize("routing", [Threshold(), Adaptive()], ids=repr)
    def test_a_tile_that_exceeds_the_memory_is_cut(
        self, routing: Routing, error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, lr = tiny_model("dense"), make_image(23, 30)
        smooth, expected = run(model, lr, 2, Settings(routing, refine=1))
        refused = _refuse_larger_than(monkeypatch, 400, error)
        cut, outcome = run(model, lr, 2, Settings(routing, refine=1))
        assert refused, "the test should refuse a crop"
        assert torch.allclose(cut.rgb, smooth.rgb, atol=1e-5)
        assert torch.equal(cut.labels, smooth.labels)
        assert outcome.branch_pixels == expected.branch_pixels

    def test_after_the_first_shortage_all_tiles_are_smaller(self, monkeypatch: pytest.MonkeyPatch) -> None:
        emptied: list[torch.device] = []
        monkeypatch.setattr(upscaling, "empty_cache", emptied.append)
        refused = _refuse_larger_than(monkeypatch, 20 * 20)
        _, outcome = run(tiny_model("dense"), make_image(40, 48), 2, Settings(Adaptive(), refine=1, tile=16))
        assert len(outcome.plan.tiles) == 9 and len(refused) == len(emptied) == 1

    def test_a_tile_surveyed_again_counts_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, lr = tiny_model("dense"), make_image(23, 30)
        smooth, cut = DifficultySurvey(2**20), DifficultySurvey(2**20)
        survey_difficulties(model, lr, 2, Settings(refine=1), smooth)
        refused = _refuse_larger_than(monkeypatch, 400)
        survey_difficulties(model, lr, 2, Settings(refine=1), cut)
        assert refused, "the test should refuse a crop"
        assert torch.allclose(cut.values().sort().values, smooth.values().sort().values, atol=1e-6)

    def test_the_error_is_raised_if_no_tile_is_small_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _refuse_larger_than(monkeypatch, 0)
        with pytest.raises(torch.OutOfMemoryError):
            run(tiny_model("dense"), make_image(6, 6), 2, Settings(refine=1))

    def test_other_errors_are_raised_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        refused = _refuse_larger_than(monkeypatch, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
        with pytest.raises(RuntimeError, match="mat1"):
            run(tiny_model("dense"), make_image(6, 6), 2, Settings(refine=1))
        assert len(refused) == 1

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("routing", [Threshold(), Adaptive()], ids=repr)
    def test_a_classifier_overflow_is_repeated_in_float32(
        self, routing: Routing, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = PreparedModel.probabilities

        def overflowing(self: PreparedModel, logits: Tensor) -> Tensor:
            found = original(self, logits)
            if self.dtype == dtype:
                found[..., 3] = torch.nan
            return found

        monkeypatch.setattr(PreparedModel, "probabilities", overflowing)
        lr, half, how = make_image(12, 10), lowered(tiny_model("carn"), dtype), Settings(routing, refine=1, tile=6)
        rgb, labels, _ = upscale_whole(half, lr, 2, how)
        expected_rgb, expected_labels, _ = upscale_whole(tiny_model("carn"), lr, 2, how)
        assert torch.equal(rgb, expected_rgb) and torch.equal(labels, expected_labels)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
    @pytest.mark.parametrize("routing", [Threshold(), Adaptive()], ids=repr)
    @pytest.mark.parametrize("part", ["encoder", "classifier", "sampler"])
    def test_a_result_that_is_not_finite_is_an_error(self, part: str, routing: Routing, dtype: torch.dtype) -> None:
        model = changeable_model("fsrcnn")
        for name, weights in model.named_parameters():
            if part in name:
                weights.data.fill_(torch.nan)
        for type_ in (torch.float32, torch.uint8):
            with fails(ModelError, "is not an image"):
                upscale_whole(lowered(model, dtype), make_image(6, 5), 2, Settings(routing, refine=1), type_)

    def test_difficulties_that_are_counted_in_bins_and_not_finite_are_an_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in (adm, upscaling):
            monkeypatch.setattr(module, "EXACT_PIXELS", 30)
        model = changeable_model("fsrcnn")
        for weights in model.classifier.parameters():
            weights.data.fill_(torch.nan)
        with fails(ModelError, "is not an image"):
            upscale_whole(model, make_image(6, 5), 2, Settings(Adaptive(), refine=1))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("value", [-3e4, 3e4])
    def test_a_result_far_outside_of_the_image_is_an_error(self, value: float, dtype: torch.dtype) -> None:
        model = changeable_model("dense")
        for sampler in model.samplers:
            list(sampler.parameters())[-1].data.fill_(value)
        with fails(ModelError, "is not an image: values exceed 1,000 times white"):
            upscale_whole(lowered(model, dtype), make_image(6, 5), 2, Settings(refine=1), torch.uint8)

    @pytest.mark.parametrize(
        ("routing", "memory", "times"),
        [(Threshold(), None, 2), (Adaptive(), 0, 3), (Adaptive(), None, 3)],
        ids=["threshold", "ADM, nothing kept", "ADM"],
    )
    def test_a_feature_overflow_is_repeated_in_float32_and_counted(
        self, routing: Routing, memory: int | None, times: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(upscaling, "MAX_RESULT", 1e30)
        full = changeable_model("dense")
        assert isinstance(full.encoder, DenseBackbone)
        full.encoder.head.weight.data *= 200_000
        lr, how = make_image(12, 10), Settings(routing, refine=1, memory=memory)
        expected, _ = run(full, lr, 2, how)
        result, outcome = run(lowered(full, torch.float16), lr, 2, how)
        assert torch.equal(result.rgb, expected.rgb)
        assert torch.equal(result.labels, expected.labels)
        # Once in half precision, then in float32 for every pass, because features in float32 are not kept.
        assert outcome.executed.backbone == times * 120


def _refuse_larger_than(
    monkeypatch: pytest.MonkeyPatch, pixels: int, error: Exception = SHORT_OF_MEMORY[0]
) -> list[int]:
    """Make the backbone fail on crops of more than ``pixels`` pixels. Return the sizes it refused."""
    refused: list[int] = []
    original = PreparedModel.feature_bands

    def short_of_memory(self: PreparedModel, x: Tensor, ledger: Ledger) -> Iterator[Tensor]:
        for band in original(self, x, ledger):
            yield band[:, :, :4]
            if x.shape[2] * x.shape[3] > pixels:
                refused.append(x.shape[2] * x.shape[3])
                raise error
            yield band[:, :, 4:]

    monkeypatch.setattr(PreparedModel, "feature_bands", short_of_memory)
    return refused
