"""The report of one upscale. The panel, the JSON document and the text chunks of a PNG are made from the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

import pcsr_cli
from pcsr_cli.engine.device import describe_device, peak_memory
from pcsr_cli.engine.routing import Cuts
from pcsr_cli.engine.rules import NEVER, Adaptive, Budget, Routing, SingleBranch, Threshold, Tradeoff
from pcsr_cli.engine.tiles import TilePlan
from pcsr_cli.engine.upscale import Outcome
from pcsr_cli.images.source import SourceKind
from pcsr_cli.model.flops import GIGA, Executed, executed_flops, model_costs, original_flops, paper_flops
from pcsr_cli.model.registry import Identity, LoadedModel


@dataclass(frozen=True)
class Gflops:
    """GFLOPs of one upscale, of the same upscale with all pixels heavy, and of the original network (None without one).

    The figures are in one convention, the paper's or the executed one."""

    pcsr: float
    all_heavy: float
    original: float | None

    @property
    def saved(self) -> dict[str, float | None]:
        """Percent saved against all-heavy and against the original network; negative if PCSR costs more."""
        original = None if self.original is None else _percent_saved(self.pcsr, self.original)
        return {"all_heavy": _percent_saved(self.pcsr, self.all_heavy), "original": original}


@dataclass(frozen=True)
class Seconds:
    """Wall time of the parts of an upscale."""

    load: float
    compute: float
    save: float

    @property
    def total(self) -> float:
        """Sum of the times of all parts."""
        return self.load + self.compute + self.save


@dataclass(frozen=True)
class BudgetReport:
    """A budget and how close the upscale came to it, in GFLOPs (paper's count)."""

    unit: str
    asked: float
    spent: float

    @property
    def percent_off(self) -> float:
        """Percent spent above the budget; negative if less was spent."""
        return 100 * (self.spent / self.asked - 1)


@dataclass(frozen=True)
class RoutingReport:
    """The routing rule, its cuts (thresholds of p_heavy), and the number of pixels that each branch computed.

    ``forced_light`` and ``forced_heavy`` count the pixels whose branch came from a mask."""

    rule: str
    cuts: tuple[float, ...]
    refine: int
    branch_pixels: tuple[int, ...]
    heavy_share: float
    forced_light: int = 0
    forced_heavy: int = 0


@dataclass(frozen=True)
class Report:
    """The report of one upscale. Sizes are (width, height). ``peak_memory`` is in bytes, or None if it is unknown.

    ``source_kind`` is the kind of the source if the model was chosen by it."""

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
    peak_memory: int | None
    notes: tuple[str, ...]
    source_kind: SourceKind | None = None
    budget: BudgetReport | None = None

    def as_document(self) -> dict[str, Any]:
        """Return the report as a JSON document, without budget, peak memory and kind of source if they are None."""
        document = asdict(self)
        if self.source_kind is None:
            del document["source_kind"]
        gflops = {
            "paper": {**document.pop("paper"), "saved_percent": self.paper.saved},
            "executed": {**document.pop("executed"), "saved_percent": self.executed.saved},
        }
        if self.budget is None:
            del document["budget"]
        else:
            document["budget"]["percent_off"] = self.budget.percent_off
        document["seconds"]["total"] = self.seconds.total
        if (peak := document.pop("peak_memory")) is not None:
            document["peak_memory_bytes"] = peak
        return {"pcsr": pcsr_cli.__version__, "torch": torch.__version__, **document, "gflops": gflops}


def make_report(
    model: LoadedModel,
    outcomes: Sequence[Outcome],
    routing: Routing,
    refine: int,
    *,
    source: str,
    output: str,
    input_size: tuple[int, int],
    output_size: tuple[int, int],
    scale: float,
    working_scale: float,
    seconds: Seconds,
    notes: tuple[str, ...] = (),
    source_kind: SourceKind | None = None,
) -> Report:
    """Make the report of an upscale. ``outcomes`` has one outcome per frame, none if the network did not run.
    Sizes are (height, width).

    Counts are sums over the frames."""
    paper, executed = count_gflops(model, outcomes, working_scale)
    budget = None
    if isinstance(routing, Budget):
        budget = BudgetReport("GFLOPs", len(outcomes) * routing.gflops, paper.pcsr)
    return Report(
        source=source,
        output=output,
        input_size=(input_size[1], input_size[0]),
        output_size=(output_size[1], output_size[0]),
        scale=scale,
        working_scale=working_scale,
        model=model.identity,
        parameters=model.network.parameter_count(),
        device=describe_device(model.network.device),
        precision=model.network.precision,
        routing=_describe_routing(routing, refine, outcomes),
        tiles=sum(len(outcome.plan.tiles) for outcome in outcomes),
        paper=paper,
        executed=executed,
        seconds=seconds,
        peak_memory=peak_memory(model.network.device),
        notes=notes,
        source_kind=source_kind,
        budget=budget,
    )


def count_gflops(model: LoadedModel, outcomes: Sequence[Outcome], scale: float) -> tuple[Gflops, Gflops]:
    """Sum the GFLOPs of upscales by the paper's count and as executed.

    The figure "all heavy" is for the same tiles in one pass with every pixel heavy. The original network exists for one
    scale only."""
    costs = model_costs(model.network)
    plans = [outcome.plan for outcome in outcomes]
    all_heavy = [(*(0,) * (len(costs.branches) - 1), plan.hr_pixels) for plan in plans]
    lr_pixels = sum(plan.lr_pixels for plan in plans)
    original = original_flops(model.identity.original, scale, lr_pixels)
    paper = Gflops(
        sum(paper_flops(costs, outcome.plan.lr_pixels, outcome.branch_pixels) for outcome in outcomes) / GIGA,
        sum(paper_flops(costs, plan.lr_pixels, pixels) for plan, pixels in zip(plans, all_heavy, strict=True)) / GIGA,
        None if original is None else original.paper / GIGA,
    )
    executed = Gflops(
        sum(executed_flops(costs, outcome.executed) for outcome in outcomes) / GIGA,
        sum(executed_flops(costs, single_pass(plan, len(costs.branches), -1)) for plan in plans) / GIGA,
        None if original is None else original.executed / GIGA,
    )
    return paper, executed


def single_pass(plan: TilePlan, branches: int, branch: int) -> Executed:
    """Return the work of one pass that gives all pixels one branch, without the rows that bands compute twice."""
    pixels, shared = [0] * branches, [0] * branches
    pixels[branch] = sum(tile.region.area for tile in plan.tiles)
    shared[branch] = sampled = sum(tile.sampled.area for tile in plan.tiles)
    return Executed(plan.backbone_pixels, sampled, pixels[branch], tuple(shared), tuple(pixels))


def text_chunks(
    model: Identity, routing: Routing, refine: int, scale: float, source: SourceKind | None = None
) -> Mapping[str, str]:
    """Return the text chunks of a PNG, which state how it was made. The chunks are known before any pixel is
    computed."""
    revision = f" at {model.revision}" if model.revision else ""
    chunks = {
        "Software": f"pcsr {pcsr_cli.__version__}",
        "pcsr:model": f"{model.name}{revision}",
        "pcsr:weights-sha256": model.sha256,
        "pcsr:routing": f"{describe_rule(routing)}, refine {refine}",
        "pcsr:scale": f"{scale:g}",
    }
    if source is not None:
        chunks["pcsr:source"] = str(source)
    # A file name may hold bytes that are not UTF-8.
    return {key: value.encode("utf-8", "replace").decode("utf-8") for key, value in chunks.items()}


def describe_rule(routing: Routing) -> str:
    """Describe a routing in a few words."""
    match routing:
        case Threshold(cut):
            return f"threshold {cut:g}"
        case Tradeoff(k):
            return f"k = {k:g}"
        case Adaptive():
            return "ADM"
        case SingleBranch(heavy):
            return "all heavy" if heavy else "all light"
        case Budget(gflops, asked):
            amount = f"{gflops:.4g} GFLOPs"
            return f"budget {asked}: {amount}" if asked else f"budget {amount}"


def _describe_routing(routing: Routing, refine: int, outcomes: Sequence[Outcome]) -> RoutingReport:
    """Report the routing of all frames. Cuts are included only if all frames have the same cuts."""
    if not outcomes:
        return RoutingReport("none", (), NEVER, (), 0.0)
    decision = outcomes[0].decision
    same = len({outcome.decision for outcome in outcomes}) == 1
    cuts = decision.values if same and isinstance(decision, Cuts) else ()
    rule = describe_rule(routing)
    if isinstance(routing, Budget) and len(outcomes) > 1:
        rule += " a frame"
    pixels = tuple(sum(counts) for counts in zip(*(outcome.branch_pixels for outcome in outcomes), strict=True))
    return RoutingReport(rule, cuts, min(refine, NEVER), pixels, pixels[-1] / sum(pixels), *outcomes[0].forced)


def _percent_saved(spent: float, reference: float) -> float:
    return 100 * (1 - spent / reference) if reference else 0.0
