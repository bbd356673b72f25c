"""The losses of the two stages, and what each stage trains."""

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import nn

from pcsr_cli.engine.rules import NEVER, Threshold
from pcsr_cli.engine.upscale import Settings, upscale_whole
from pcsr_cli.model.network import Pcsr
from pcsr_cli.training.batches import BatchMaker
from pcsr_cli.training.config import ModelConfig, ScaleShare, StageConfig
from pcsr_cli.training.stages import HeavyStage, RoutingStage, balance
from pcsr_cli.training.trainer import Trainer

PATCHES = np.random.default_rng(1).integers(256, size=(3, 64, 64, 3), dtype=np.uint8)
STAGE = StageConfig(iterations=40, batch=2, crop=8, pixels=10_000, learning_rate=1e-2)


def tiny(samplers: tuple[tuple[int, ...], ...] = ((4,), (8, 8))) -> Pcsr:
    torch.manual_seed(0)
    return Pcsr(ModelConfig(samplers=samplers, width=8, depth=1, classifier=(4,), mean=(0.4, 0.5, 0.6)).spec)


def last_layer(model: Pcsr) -> nn.Linear:
    layer = model.classifier.imnet.layers[-1]
    assert isinstance(layer, nn.Linear)
    return layer


def maker(scale: float) -> BatchMaker:
    return BatchMaker(torch.from_numpy(PATCHES), STAGE, (ScaleShare(scale, scale),), seed=(0,))


@pytest.mark.parametrize("scale", [2, 2.5, 4])
def test_the_first_stage_computes_what_the_engine_computes(scale: float) -> None:
    model, batch = tiny().eval(), maker(scale)[0]
    loss = HeavyStage(model)(batch).total
    errors = []
    for lr, truth in zip(batch.lr, batch.truth, strict=True):
        rgb, _, _ = upscale_whole(model, lr[None], scale, Settings(Threshold(0), refine=NEVER))
        errors.append((rgb - truth).abs().mean())
    assert loss.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)


def test_the_second_stage_has_the_papers_two_terms() -> None:
    model, batch = tiny(), maker(2)[0]
    logits = last_layer(model)
    with torch.no_grad():
        logits.weight.zero_()
        logits.bias.copy_(torch.tensor([0.0, 50.0]))
    loss = RoutingStage(model, STAGE)(batch)
    heavy = HeavyStage(model)(batch)
    assert loss.heavy_share is not None and loss.heavy_share.item() == pytest.approx(1)
    assert loss.total.item() == pytest.approx(1000 * heavy.total.item() + 3, rel=1e-5)


def test_balance_is_the_papers_term_and_zero_at_the_target() -> None:
    for heavy in (0.0, 0.2, 0.5, 0.9):
        assert balance(torch.tensor([1 - heavy, heavy]), 0.5).item() == pytest.approx(abs(heavy - 0.5) / 0.5)
    assert balance(torch.tensor([0.35, 0.35, 0.3]), 0.3).item() == pytest.approx(0, abs=1e-6)
    assert balance(torch.tensor([1.0, 0.0, 0.0]), 0.3).item() > 1


@pytest.mark.parametrize("target", [0.5, 0.2])
def test_the_balance_term_moves_the_heavy_share(target: float) -> None:
    model = tiny()
    logits = last_layer(model)
    with torch.no_grad():
        logits.bias.copy_(torch.tensor([0.0, 2.0]))
    config = replace(STAGE, balance=1000.0, heavy_share=target, learning_rate=0.1)
    trainer, batches = Trainer(model, 2, config), maker(2)
    shares = [trainer.iterate(batches[step]).heavy_share for step in range(40)]
    first, last = shares[0], shares[-1]
    assert first is not None and last is not None
    assert abs(last.item() - target) < 0.1 < abs(first.item() - target)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_trains_only_its_own_parts(stage: int) -> None:
    model = tiny(((), (4,), (8, 8)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = Trainer(model, stage, STAGE)
    for step in range(3):
        trainer.iterate(maker(2)[step])
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    of_stage_1 = {name for name in before if name.startswith(("encoder.", "heavy_sampler."))}
    assert changed == (of_stage_1 if stage == 1 else set(before) - of_stage_1)


def test_bfloat16_ends_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(tiny(), 1, replace(STAGE, precision="bfloat16", float32_tail=0.5, iterations=6))
    lowered: list[bool] = []
    features = Pcsr.features

    def recorded(model: Pcsr, x: torch.Tensor) -> torch.Tensor:
        lowered.append(torch.is_autocast_enabled("cpu"))
        return features(model, x)

    monkeypatch.setattr(Pcsr, "features", recorded)
    batches = maker(2)
    losses = [trainer.iterate(batches[step]).total for step in range(6)]
    assert lowered == [True] * 3 + [False] * 3
    assert all(torch.isfinite(loss) and loss.dtype == torch.float32 for loss in losses)


def test_the_first_stage_may_end_in_squares() -> None:
    trainer, batches = Trainer(tiny(), 1, replace(STAGE, iterations=2, square_tail=0.5, learning_rate=1e-9)), maker(2)
    absolute, square = (trainer.iterate(batches[0]).total.item() for _ in range(2))
    assert square == pytest.approx(HeavyStage(trainer.model)(batches[0], square=True).total.item(), rel=1e-3)
    assert square < absolute
