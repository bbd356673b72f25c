"""PSNR on a folder of HR pictures: enlarged, counted and compared as ``pcsr bench`` does it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from pcsr_cli.engine.refine import usual_refine
from pcsr_cli.engine.routing import default_routing
from pcsr_cli.engine.upscale import Settings
from pcsr_cli.errors import InputError, TrainingError
from pcsr_cli.evaluate.dataset import Pair, find_pairs, load_pair
from pcsr_cli.evaluate.methods import Method
from pcsr_cli.evaluate.metrics import psnr
from pcsr_cli.evaluate.runner import Contest, Enlarged
from pcsr_cli.model.flops import GIGA
from pcsr_cli.model.load import Identity, LoadedModel
from pcsr_cli.model.network import Pcsr
from pcsr_cli.training.config import TrainConfig
from pcsr_cli.training.events import Observer, Quality, Skipped


@dataclass(frozen=True)
class Task:
    """A pair to measure on, and the PSNR (dB) of its bicubic enlargement, which no training changes."""

    pair: Pair
    bicubic: float


class Validator:
    """Measures weights on the recipe's folder, at its scales."""

    def __init__(self, config: TrainConfig, device: torch.device, observe: Observer) -> None:
        """Read the pictures. Raises InputError, UsageError, TrainingError as ``load_tasks``."""
        assert config.validation is not None
        folder = config.locate(config.validation.path)
        network = Pcsr(config.model.spec).to(device).eval().requires_grad_(False)
        self._routing = default_routing(network.spec.branches)
        self._model = LoadedModel(
            network, Identity(config.name, None, "", config.licence, "in training", None), config.trained_scales
        )
        contests = [Contest(self._model, scale, usual_settings(scale)) for scale in config.validation.scales]
        self._tasks = [(contest, load_tasks(folder, contest, observe)) for contest in contests]

    def measure(self, weights: Mapping[str, Tensor], stage: int) -> Iterator[Quality]:
        """The quality at each scale; in the first stage, where there is no routing yet, with all pixels heavy."""
        self._model.network.load_state_dict(weights)
        for contest, tasks in self._tasks:
            heavy = [contest.enter(task.pair.lr).enlarge(Method("heavy")) for task in tasks]
            routed = heavy if stage == 1 else [contest.enter(task.pair.lr).run(self._routing)[0] for task in tasks]
            yield Quality(
                scale=int(contest.scale),
                psnr=_mean_psnr(routed, tasks),
                psnr_heavy=_mean_psnr(heavy, tasks),
                psnr_bicubic=fmean(task.bicubic for task in tasks),
                heavy_share=fmean(_known(result.heavy_share) for result in routed),
                flops=fmean(_known(result.executed) for result in routed) * GIGA,
            )


def usual_settings(scale: float) -> Settings:
    """How the program enlarges by ``scale`` where nothing else is asked of it."""
    return Settings(refine=usual_refine(scale))


def load_tasks(folder: Path, contest: Contest, observe: Observer) -> tuple[Task, ...]:
    """Every picture of ``folder`` (or of its HR and LR_xN) at the contest's scale; a bad one is named and left out.

    Raises InputError for a folder that is missing or empty, TrainingError if none of its pictures is left.
    """
    tasks = []
    for source in find_pairs([folder], contest.scale):
        assert source.hr is not None
        try:
            pair = load_pair(source, contest.scale)
            tasks.append(Task(pair, _psnr(contest.enter(pair.lr).enlarge(Method("bicubic")), pair)))
        except InputError as error:
            observe(Skipped(source.hr, error.sentence))
    if not tasks:
        raise TrainingError(
            f"There is no picture to validate on in {folder}.", "validation.path names a folder of them."
        )
    return tuple(tasks)


def _mean_psnr(results: list[Enlarged], tasks: tuple[Task, ...]) -> float:
    return fmean(_psnr(result, task.pair) for result, task in zip(results, tasks, strict=True))


def _psnr(result: Enlarged, pair: Pair) -> float:
    """RGB, 8 bits, as many border pixels shaved as the scale."""
    assert pair.hr is not None
    return psnr(result.rgb, pair.hr, int(pair.scale))


def _known(value: float | None) -> float:
    assert value is not None
    return value
