"""Times the stages of the engine during a normal upscale by patching its functions."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from pcsr_cli.engine import refine
from pcsr_cli.engine.fused import PreparedModel
from pcsr_cli.engine.fused.samplers import PreparedMlp
from pcsr_cli.engine.sampling import BandSampler
from pcsr_cli.engine.upscale import Outcome, StripBuffer
from pcsr_cli.model.flops import ModelCosts
from pcsr_cli.model.spec import sampler_names

BACKBONE, CLASSIFIER, BASE, REFINEMENT, WRITING = "backbone", "classifier", "base", "refinement", "writing"
REST = "routing and the rest"


class Stopwatch:
    """Adds up seconds by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def timed(self, function: Callable[..., Any], stage: str | None = None) -> Callable[..., Any]:
        """Wrap a function to time it for a stage, or a method of a band sampler to time it for its MLP's stage."""

        def wrapper(first: Any, *rest: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(first, *rest, **named)
            finally:
                self.seconds[stage or _stage_of(first, *rest)] += time.perf_counter() - started

        return wrapper

    def timed_each(self, function: Callable[..., Iterator[Any]], stage: str) -> Callable[..., Iterator[Any]]:
        """Wrap a generator function to time each step of the generator."""

        def wrapper(*arguments: Any) -> Iterator[Any]:
            following = self.timed(lambda items: next(items, None), stage)
            items = function(*arguments)
            while (item := following(items)) is not None:
                yield item

        return wrapper


@contextmanager
def timed_engine() -> Iterator[Stopwatch]:
    """Time the stages of the engine inside the block."""
    watch = Stopwatch()
    with ExitStack() as stack:

        def replace(owner: object, name: str, function: Callable[..., Any]) -> None:
            stack.enter_context(patch.object(owner, name, function))

        replace(PreparedModel, "feature_bands", watch.timed_each(PreparedModel.feature_bands, BACKBONE))
        replace(BandSampler, "everywhere", watch.timed(BandSampler.everywhere))
        replace(BandSampler, "at", watch.timed(BandSampler.at))
        replace(BandSampler, "base", watch.timed(BandSampler.base, BASE))
        replace(refine, "refine", watch.timed(refine.refine, REFINEMENT))
        replace(StripBuffer, "write", watch.timed(StripBuffer.write, WRITING))
        yield watch


def stage_flops(costs: ModelCosts, outcome: Outcome) -> dict[str, float]:
    """Return the executed FLOPs by stage. Shared first layers count for the stage of their MLP."""
    ran = outcome.executed
    flops = {
        BACKBONE: costs.backbone.executed * ran.backbone + ran.repeated,
        CLASSIFIER: costs.classifier.executed * ran.classifier
        + costs.classifier_shared.executed * ran.classifier_shared,
    }
    names, parts = (
        sampler_names(len(ran.branches)),
        (costs.branches, ran.branches, costs.branches_shared, ran.branches_shared),
    )
    for name, cost, pixels, shared, lr_pixels in zip(names, *parts, strict=True):
        flops[_plain(name)] = cost.executed * pixels + shared.executed * lr_pixels
    return flops


def _stage_of(band: BandSampler, mlp: PreparedMlp, *_: object) -> str:
    prepared = band.area.prepared
    stages = dict(zip(prepared.samplers, map(_plain, sampler_names(prepared.branches)), strict=True))
    return stages.get(mlp, CLASSIFIER)


def _plain(sampler: str) -> str:
    return sampler.replace("_sampler", "").replace("_", " ")
