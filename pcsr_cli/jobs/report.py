"""What an upscale did, as data: the one source of the panel, the JSON document and the file's text chunks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

import pcsr_cli
from pcsr_cli.engine.device import describe_device, peak_memory
from pcsr_cli.engine.refine import NEVER
from pcsr_cli.engine.routing import Adaptive, Budget, CostRule, Cuts, Everywhere, Routing, Threshold, Tradeoff
from pcsr_cli.engine.tiles import TilePlan
from pcsr_cli.engine.upscale import Outcome
from pcsr_cli.model.flops import GIGA, Executed, executed_flops, model_costs, original_flops, paper_flops
from pcsr_cli.model.load import Identity, LoadedModel


@dataclass(frozen=True)
class Gflops:
    """GFLOPs of one upscale and of what it is compared with, in one convention; None where there is no original."""

    pcsr: float
    all_heavy: float
    original: float | None

    @property
    def saved(self) -> dict[str, float | None]:
        """Percent saved against all-heavy and against the original; negative where it cost more."""
        return {"all_heavy": _percent_saved(self.pcsr, self.all_heavy), "original": self._saved_of_original()}

    def _saved_of_original(self) -> float | None:
        return None if self.original is None else _percent_saved(self.pcsr, self.original)


@dataclass(frozen=True)
class Seconds:
    """Wall time of an upscale, part by part."""

    load: float
    compute: float
    save: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.load + self.compute + self.save


@dataclass(frozen=True)
class BudgetReport:
    """A budget and how close it came: ``asked`` and ``spent`` in GFLOPs (paper) or in seconds of computing."""

    unit: str
    asked: float
    spent: float

    @property
    def percent_off(self) -> float:
        """Percent spent too much; negative where something is left."""
        return 100 * (self.spent / self.asked - 1)


@dataclass(frozen=True)
class RoutingReport:
    """How pixels were routed: the rule asked for, the cuts it led to, and the share of heavy pixels.

    ``forced_light`` and ``forced_heavy`` count the pixels whose branch a mask chose."""

    rule: str
    cuts: tuple[float, ...]
    refine: int
    branch_pixels: tuple[int, ...]
    heavy_share: float
    forced_light: int = 0
    forced_heavy: int = 0


@dataclass(frozen=True)
class Report:
    """Everything an upscale has to say for itself. Sizes are (width, height)."""

    source: str
    output: str
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    scale: float
    working_scale: float
    model: Identity
    parameters: int
    device: str
    precision: str
    routing: RoutingReport
    tiles: int
    paper: Gflops
    executed: Gflops
    seconds: Seconds
    peak_memory: int
    notes: tuple[str, ...]
    budget: BudgetReport | None = None

    def as_document(self) -> dict[str, Any]:
        """The report as a JSON-ready document."""
        document = asdict(self)
        gflops = {
            "paper": {**document.pop("paper"), "saved_percent": self.paper.saved},
            "executed": {**document.pop("executed"), "saved_percent": self.executed.saved},
        }
        if self.budget is None:
            del document["budget"]
        else:
            document["budget"]["percent_off"] = self.budget.percent_off
        document["seconds"]["total"] = self.seconds.total
        document["peak_memory_bytes"] = document.pop("peak_memory")
        return {"pcsr": pcsr_cli.__version__, "torch": torch.__version__, **document, "gflops": gflops}


def make_report(
    model: LoadedModel,
    outcome: Outcome,
    routing: Routing,
    refine: int,
    *,
    source: str,
    output: str,
    output_size: tuple[int, int],
    scale: float,
    working_scale: float,
    seconds: Seconds,
    notes: tuple[str, ...] = (),
) -> Report:
    """Put together what is known after an upscale; ``output_size`` is (height, width)."""
    paper, executed = count_gflops(model, outcome, working_scale)
    height, width = outcome.plan.lr_size
    return Report(
        source=source,
        output=output,
        input_size=(width, height),
        output_size=(output_size[1], output_size[0]),
        scale=scale,
        working_scale=working_scale,
        model=model.identity,
        parameters=model.network.parameter_count(),
        device=describe_device(model.network.device),
        precision=model.network.precision,
        routing=_describe_routing(routing, refine, outcome),
        tiles=len(outcome.plan.tiles),
        paper=paper,
        executed=executed,
        seconds=seconds,
        peak_memory=peak_memory(model.network.device),
        notes=notes,
        budget=_spent(routing, paper.pcsr, seconds.compute),
    )


def _spent(routing: Routing, gflops: float, seconds: float) -> BudgetReport | None:
    match routing:
        case Budget(gflops=float(asked)):
            return BudgetReport("GFLOPs", asked, gflops)
        case Budget(seconds=float(asked)):
            return BudgetReport("seconds", asked, seconds)
        case _:
            return None


def with_saving(report: Report, seconds: float, model: LoadedModel) -> Report:
    """The report once the result is saved, which took time and perhaps memory of its own."""
    took = replace(report.seconds, save=seconds)
    return replace(report, seconds=took, peak_memory=peak_memory(model.network.device))


def count_gflops(model: LoadedModel, outcome: Outcome, scale: float) -> tuple[Gflops, Gflops]:
    """GFLOPs by the paper's convention and as executed.

    All-heavy is the same plan in one pass with every pixel heavy; the original stands beside its own scale only."""
    costs = model_costs(model.network)
    plan = outcome.plan
    original = original_flops(model.identity.original, scale, plan.lr_pixels)
    all_heavy = (0,) * (len(costs.branches) - 1)
    paper = Gflops(
        paper_flops(costs, plan.lr_pixels, outcome.branch_pixels) / GIGA,
        paper_flops(costs, plan.lr_pixels, (*all_heavy, plan.hr_pixels)) / GIGA,
        None if original is None else original.paper / GIGA,
    )
    executed = Gflops(
        executed_flops(costs, outcome.executed) / GIGA,
        executed_flops(costs, _executed_all_heavy(plan, len(costs.branches))) / GIGA,
        None if original is None else original.executed / GIGA,
    )
    return paper, executed


def text_chunks(model: Identity, routing: Routing, refine: int, scale: float) -> Mapping[str, str]:
    """What the file itself says about how it was made; all of it is known before the first pixel is."""
    revision = f" at {model.revision}" if model.revision else ""
    chunks = {
        "Software": f"pcsr {pcsr_cli.__version__}",
        "pcsr:model": f"{model.name}{revision}",
        "pcsr:weights-sha256": model.sha256,
        "pcsr:routing": f"{describe_rule(routing)}, refine {refine}",
        "pcsr:scale": f"{scale:g}",
    }
    # A file name need not be text.
    return {key: value.encode("utf-8", "replace").decode("utf-8") for key, value in chunks.items()}


def describe_rule(routing: Routing) -> str:
    """The routing asked for, in a few words."""
    match routing:
        case Threshold(cut):
            return f"threshold {cut:g}"
        case Tradeoff(k):
            return f"k = {k:g}"
        case Adaptive():
            return "ADM"
        case Everywhere(heavy):
            return "all heavy" if heavy else "all light"
        case Budget(gflops, seconds, asked):
            amount = f"{seconds:g} s" if gflops is None else f"{gflops:.4g} GFLOPs"
            return f"budget {asked}: {amount}" if asked else f"budget {amount}"


def _describe_routing(routing: Routing, refine: int, outcome: Outcome) -> RoutingReport:
    match outcome.decision:
        case Cuts(values):
            cuts = values
        case CostRule():
            cuts = ()
    rule = describe_rule(routing)
    return RoutingReport(rule, cuts, min(refine, NEVER), outcome.branch_pixels, outcome.heavy_share, *outcome.forced)


def _executed_all_heavy(plan: TilePlan, branches: int) -> Executed:
    predicted = sum(tile.region.area for tile in plan.tiles)
    sampled = sum(tile.sampled.area for tile in plan.tiles)
    return Executed(
        backbone=sum(tile.seen.area for tile in plan.tiles),
        classifier_shared=sampled,
        classifier=predicted,
        branches_shared=sampled,
        branches=(*(0,) * (branches - 1), predicted),
    )


def _percent_saved(spent: float, reference: float) -> float:
    return 100 * (1 - spent / reference)
