"""Where the engine's time goes: stages watched from outside while it does its usual work."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from pcsr_cli.engine import refine
from pcsr_cli.engine.fused import PreparedModel
from pcsr_cli.engine.fused.samplers import PreparedMlp
from pcsr_cli.engine.sampling import AreaSampler
from pcsr_cli.engine.upscale import Outcome, StripBuffer
from pcsr_cli.model.flops import ModelCosts
from pcsr_cli.model.network import Pcsr
from pcsr_cli.model.spec import sampler_names

PREPARING = "preparation"
BACKBONE, CLASSIFIER, BASE, REFINEMENT, WRITING = "backbone", "classifier", "base", "refinement", "writing"
REST = "routing and the rest"


class Stopwatch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.stage_of: dict[int, str] = {}

    def timed(self, function: Callable[..., Any], stage: str | None = None) -> Callable[..., Any]:
        """The same function, timed for a stage; without one, for that of the MLP it is a method of."""

        def watched(first: Any, *rest: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(first, *rest, **named)
            finally:
                self.seconds[stage or self.stage_of[id(first)]] += time.perf_counter() - started

        return watched

    def timed_each(self, function: Callable[..., Iterator[Any]], stage: str) -> Callable[..., Iterator[Any]]:
        """The same generator, timed from each request to what it gives."""

        def watched(*arguments: Any) -> Iterator[Any]:
            following = self.timed(lambda items: next(items, None), stage)
            items = function(*arguments)
            while (item := following(items)) is not None:
                yield item

        return watched

    def introduced(self, prepare: Callable[..., None]) -> Callable[..., None]:
        """The preparation of a model, timed; its MLPs are taken note of."""
        preparing = self.timed(prepare, PREPARING)

        def watched(prepared: PreparedModel, model: Pcsr) -> None:
            preparing(prepared, model)
            self.stage_of[id(prepared.classifier)] = CLASSIFIER
            for name, sampler in zip(sampler_names(prepared.branches), prepared.samplers, strict=True):
                self.stage_of[id(sampler)] = _plain(name)

        return watched


@contextmanager
def watched_engine() -> Iterator[Stopwatch]:
    """Watch the engine while the block runs."""
    watch = Stopwatch()
    with ExitStack() as stack:

        def put(owner: object, name: str, function: Callable[..., Any]) -> None:
            stack.enter_context(patch.object(owner, name, function))

        put(PreparedModel, "__init__", watch.introduced(PreparedModel.__init__))
        put(PreparedModel, "feature_bands", watch.timed_each(PreparedModel.feature_bands, BACKBONE))
        for name in ("table", "__call__", "in_pieces"):
            put(PreparedMlp, name, watch.timed(getattr(PreparedMlp, name)))
        put(AreaSampler, "_base", watch.timed(AreaSampler._base, BASE))
        put(refine, "refine", watch.timed(refine.refine, REFINEMENT))
        put(StripBuffer, "write", watch.timed(StripBuffer.write, WRITING))
        yield watch


def stage_flops(costs: ModelCosts, outcome: Outcome) -> dict[str, float]:
    """Executed FLOPs by stage, first layers with the stage they belong to. Other stages multiply next to nothing."""
    ran = outcome.executed
    flops = {
        BACKBONE: costs.backbone.executed * ran.backbone + ran.repeated,
        CLASSIFIER: costs.classifier.executed * ran.classifier
        + costs.classifier_shared.executed * ran.classifier_shared,
    }
    names = sampler_names(len(ran.branches))
    for name, cost, shared, pixels in zip(names, costs.branches, costs.branches_shared, ran.branches, strict=True):
        flops[_plain(name)] = cost.executed * pixels + shared.executed * ran.branches_shared
    return flops


def _plain(sampler: str) -> str:
    return sampler.replace("_sampler", "").replace("_", " ")
