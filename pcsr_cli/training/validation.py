"""Quality of weights on a folder of HR images, measured as in ``pcsr bench``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from pcsr_cli.engine.rules import default_routing, usual_refine
from pcsr_cli.engine.upscale import Settings
from pcsr_cli.errors import InputError, TrainingError
from pcsr_cli.evaluate.arguments import Method
from pcsr_cli.evaluate.dataset import Pair, find_pairs, load_pair
from pcsr_cli.evaluate.metrics import psnr
from pcsr_cli.evaluate.runner import Conditions, MethodResult, MethodRunner
from pcsr_cli.model.flops import GIGA
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.registry import Identity, LoadedModel
from pcsr_cli.training.config import TrainConfig
from pcsr_cli.training.log import Observer, Skipped, Validated

MeasuredPair = tuple[Pair, float]
"""An LR and an HR image, and the PSNR (dB) of bicubic upscaling."""


class Validator:
    """Measures weights on the validation images and scales of a recipe."""

    def __init__(self, config: TrainConfig, device: torch.device, observe: Observer) -> None:
        """Read the images. Raises the errors of ``load_pairs``."""
        assert config.validation is not None
        folder = config.locate(config.validation.path)
        network = Pcsr(config.model.spec).to(device).eval().requires_grad_(False)
        self._routing = default_routing(network.spec.branches)
        self._model = LoadedModel(
            network, Identity(config.name, None, "", config.licence, "in training", None), config.trained_scales
        )
        all_conditions = [
            Conditions(self._model, scale, Settings(refine=usual_refine(scale))) for scale in config.validation.scales
        ]
        self._pairs = [(conditions, load_pairs(folder, conditions, observe)) for conditions in all_conditions]

    def measure(self, weights: Mapping[str, Tensor], stage: int, step: int, seconds: float) -> Iterator[Validated]:
        """Yield the quality of ``weights`` at each scale. The first stage has no routing, so all pixels are heavy."""
        self._model.network.load_state_dict(weights)
        for conditions, pairs in self._pairs:
            heavy = [MethodRunner(conditions, pair.lr).run(Method("heavy")) for pair, _ in pairs]
            routed = (
                heavy
                if stage == 1
                else [MethodRunner(conditions, pair.lr).run_routing(self._routing) for pair, _ in pairs]
            )
            yield Validated(
                scale=int(conditions.scale),
                psnr=_mean_psnr(routed, pairs),
                psnr_heavy=_mean_psnr(heavy, pairs),
                psnr_bicubic=fmean(bicubic for _, bicubic in pairs),
                heavy_share=fmean(_known(result.heavy_share) for result in routed),
                flops=fmean(_known(result.executed) for result in routed) * GIGA,
                stage=stage,
                step=step,
                seconds=seconds,
            )


def load_pairs(folder: Path, conditions: Conditions, observe: Observer) -> list[MeasuredPair]:
    """Read the images of ``folder``, or of its subfolders HR and LR_xN; report and skip images that cannot be used.

    Raises InputError if the folder is missing or empty, TrainingError if no image can be used."""
    pairs: list[MeasuredPair] = []
    for source in find_pairs([folder], conditions.scale):
        assert source.hr is not None
        try:
            pair = load_pair(source, conditions.scale)
            pairs.append((pair, _psnr(MethodRunner(conditions, pair.lr).run(Method("bicubic")), pair)))
        except InputError as error:
            observe(Skipped(source.hr, error.sentence))
    if not pairs:
        raise TrainingError(f"No image in {folder} can be used for validation.", "Set validation.path to HR images.")
    return pairs


def _mean_psnr(results: list[MethodResult], pairs: list[MeasuredPair]) -> float:
    return fmean(_psnr(result, pair) for result, (pair, _) in zip(results, pairs, strict=True))


def _psnr(result: MethodResult, pair: Pair) -> float:
    """PSNR of 8-bit RGB, without a border as wide as the scale."""
    assert pair.hr is not None
    return psnr(result.rgb, pair.hr, int(pair.scale))


def _known(value: float | None) -> float:
    assert value is not None
    return value
