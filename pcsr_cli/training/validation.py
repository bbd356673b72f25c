"""PSNR on a folder of HR pictures: shrunk, enlarged whole by the engine, compared with the truth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsr_cli.engine.canvas import ByteCanvas
from pcsr_cli.engine.upscaling import Outcome, Settings, upscale
from pcsr_cli.errors import InputError
from pcsr_cli.failures import training
from pcsr_cli.flops import executed_flops, model_costs
from pcsr_cli.grid import hr_size
from pcsr_cli.measuring.metrics import psnr
from pcsr_cli.model import Pcsr
from pcsr_cli.pictures.formats import known_suffixes
from pcsr_cli.pictures.reading import read_rgb
from pcsr_cli.resize import crop_to_multiple, make_lr, resize_bicubic_8bit
from pcsr_cli.routing import Routing, Threshold, Tradeoff, default_routing
from pcsr_cli.training.config import TrainConfig
from pcsr_cli.training.events import Observer, Skipped


@dataclass(frozen=True)
class Pair:
    """A picture to measure on: ``hr`` (s*h, s*w, 3) and its ``lr`` (h, w, 3), both uint8 RGB."""

    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]
    scale: int


@dataclass(frozen=True)
class Measured:
    """Means over pictures: PSNR in dB, the share of heavy pixels, executed FLOPs of one picture."""

    psnr: float
    heavy_share: float
    flops: float


@dataclass(frozen=True)
class Quality(Measured):
    """What a scale reaches, with what all pixels heavy and bicubic enlargement reach (dB)."""

    psnr_heavy: float
    psnr_bicubic: float


class Validator:
    """Measures weights on the recipe's folder, at its scales."""

    def __init__(self, config: TrainConfig, device: torch.device, observe: Observer) -> None:
        assert config.validation is not None
        folder = config.locate(config.validation.path)
        self._pairs = {scale: load_pairs(folder, scale, observe) for scale in config.validation.scales}
        self._bicubic = {scale: bicubic_psnr(pairs) for scale, pairs in self._pairs.items()}
        self._model = Pcsr(config.model.spec).to(device).eval().requires_grad_(False)

    def measure(self, weights: Mapping[str, Tensor], stage: int) -> Iterator[tuple[int, Quality]]:
        """Each scale and its quality; in the first stage, where there is no routing yet, with all pixels heavy."""
        self._model.load_state_dict(weights)
        for scale, pairs in self._pairs.items():
            heavy = measure(self._model, pairs, all_heavy(self._model.spec.branches))
            routed = heavy if stage == 1 else measure(self._model, pairs)
            yield scale, Quality(**vars(routed), psnr_heavy=heavy.psnr, psnr_bicubic=self._bicubic[scale])


def load_pairs(folder: Path, scale: int, observe: Observer) -> tuple[Pair, ...]:
    """Every picture of ``folder`` with its LR at an integer scale; a broken one is named and left out.

    Raises TrainingError if none is left.
    """
    pairs = []
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in known_suffixes())
    for path in files:
        try:
            hr = crop_to_multiple(read_rgb(path), scale)
        except InputError as error:
            observe(Skipped(path, error.sentence))
            continue
        pairs.append(Pair(make_lr(hr, scale), hr, scale))
    if not pairs:
        raise training.NOTHING_TO_VALIDATE(folder=folder)
    return tuple(pairs)


def measure(model: Pcsr, pairs: Sequence[Pair], routing: Routing | None = None) -> Measured:
    """Enlarge and compare: RGB, 8 bits, as many border pixels shaved as the scale; refined as the program does.

    ``routing`` is by default the program's own.
    """
    routing = routing or default_routing(model.spec.branches)
    costs = model_costs(model)
    results: list[tuple[float, float, float]] = []
    for pair in pairs:
        result, outcome = enlarge(model, pair.lr, pair.scale, routing)
        quality = psnr(result, pair.hr, pair.scale)
        results.append((quality, outcome.heavy_share, executed_flops(costs, outcome.executed)))
    quality, share, flops = (float(mean) for mean in np.mean(results, axis=0))
    return Measured(quality, share, flops)


def enlarge(model: Pcsr, lr: NDArray[np.uint8], scale: float, routing: Routing) -> tuple[NDArray[np.uint8], Outcome]:
    """An (h, w, 3) uint8 picture enlarged, and what it took."""
    x = torch.from_numpy(lr.copy()).permute(2, 0, 1)[None].float() / 255
    canvas = ByteCanvas(*hr_size((lr.shape[0], lr.shape[1]), scale))
    outcome = upscale(model, x, scale, Settings(routing), canvas)
    return canvas.rgb.numpy(), outcome


def all_heavy(branches: int) -> Routing:
    """The routing that sends every pixel to the heaviest branch."""
    return Threshold(0.0) if branches == 2 else Tradeoff(-100.0)


def bicubic_psnr(pairs: Sequence[Pair]) -> float:
    """What plain bicubic enlargement reaches, measured the same way."""
    return float(np.mean([psnr(resize_bicubic_8bit(p.lr, *p.hr.shape[:2]), p.hr, p.scale) for p in pairs]))
