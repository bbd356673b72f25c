"""Animations on their way: every frame enlarged, its rows on the belt after those of the one before."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pcsr_cli.api import upscale_onto
from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.upscale import Outcome, Settings
from pcsr_cli.images.animation import Frame, is_animated, open_animation, open_frame_writer
from pcsr_cli.images.formats import check_animated, fit
from pcsr_cli.images.image import ImageData, Layout, Metadata, Pixels
from pcsr_cli.jobs.pipeline import Belt, Computed, Finished, Ready
from pcsr_cli.jobs.report import BudgetReport, Gflops, Report, text_chunks
from pcsr_cli.jobs.request import Errand, Request, format_of
from pcsr_cli.jobs.upscale_file import Enlarging, Putting, Watch
from pcsr_cli.model.registry import LoadedModel


@dataclass(frozen=True)
class ReadyFrames(Ready):
    """An animation that was read; ``picture`` is its first frame."""

    frames: tuple[Frame, ...] = ()
    plays: int = 0


@dataclass(frozen=True)
class ComputedFrames(Computed):
    """What came of each frame; ``outcome`` is that of the first."""

    outcomes: tuple[Outcome, ...] = ()


def steps_for(
    model: LoadedModel,
    request: Request,
    progress: Callable[[Errand, float], None] | None = None,
    record: Callable[[Errand, Ready, Path], None] | None = None,
    watch: Watch | None = None,
    stills: bool = True,
) -> Enlarging:
    """The steps for what is asked for; where that is frames, pictures that do not move are refused without ``stills``.

    Arguments are those of ``Enlarging``."""
    if not request.frames:
        return Enlarging(model, request, progress, record, watch)
    steps = EnlargingFrames(model, request, progress, record, watch)
    steps.stills = stills
    return steps


class EnlargingFrames(Enlarging):
    """The steps for animations, and for pictures that do not move unless ``stills`` is false."""

    stills = True

    def read(self, item: Errand) -> Ready:
        """Read all frames. Raises as ``Enlarging.read``, and RefusedOutputError for a format without animation."""
        began = time.perf_counter()
        if self.stills and not is_animated(item.source):
            return super().read(item)
        (frames, plays, metadata), content = self.with_content(item, lambda: self._frames(item))
        format = format_of(item.output, self.request)
        check_animated(format)
        first = replace(frames[0].picture, metadata=metadata)
        clear = any(frame.picture.alpha is not None for frame in frames)
        size = hr_size(first.size, self.request.scale)
        layout, notes = fit(Layout(*size, False, clear), format, None if self.request.save.strip else metadata)
        notes = (f"{len(frames)} frames were enlarged", *notes, *self.note_of_reduction())
        routing, seconds = self.routing_for(first.size), time.perf_counter() - began
        return ReadyFrames(first, content, format, layout, routing, notes, seconds, frames=frames, plays=plays)

    def _frames(self, item: Errand) -> tuple[tuple[Frame, ...], int, Metadata]:
        with open_animation(item.source, self.request.allow_huge) as animation:
            return tuple(animation.frames), animation.plays, animation.metadata

    def compute(self, item: Errand, read: Ready, belt: Belt[Pixels]) -> Computed:
        """Enlarge frame after frame."""
        if not isinstance(read, ReadyFrames):
            return super().compute(item, read, belt)
        asked = self.request
        settings = Settings(read.routing, refine=asked.refine, tile=asked.tile, memory=asked.memory)
        began = time.perf_counter()
        outcomes: list[Outcome] = []

        def progress(share: float) -> None:
            self.tell_progress(item, (len(outcomes) + share) / len(read.frames))

        for frame in read.frames:
            done = upscale_onto(frame.picture, self.model, asked.scale, settings, Putting(belt), progress, 8)
            outcomes.append(done)
        return ComputedFrames(read, outcomes[0], began, time.perf_counter(), tuple(outcomes))

    def write(self, item: Errand, read: Ready, belt: Belt[Pixels]) -> float:
        """Collect the frames and write them."""
        if not isinstance(read, ReadyFrames):
            return super().write(item, read, belt)
        asked, size = self.request, (read.layout.height, read.layout.width)
        text = text_chunks(self.model.identity, read.routing, asked.refine, asked.scale)

        def finished(file: Path) -> None:
            self.tell_finished(item, read, file)

        metadata = read.picture.metadata
        with open_frame_writer(
            item.output, read.format, size, read.plays, metadata, text, asked.save, finished, item.replace
        ) as writer:
            rows: list[Pixels] = []
            coming, onlookers = iter(read.frames), self.onlookers(read)
            for band in belt.loads():
                for onlooker in onlookers:
                    onlooker.write(band)
                rows.append(band)
                if sum(map(len, rows)) == size[0]:
                    frame = next(coming)
                    writer.add(_picture(rows, frame.picture), frame.milliseconds)
                    rows.clear()
        return time.perf_counter()

    def report(self, finished: Finished, loading: float = 0.0) -> Report:
        """Sums over all frames."""
        computed = finished.computed
        if not isinstance(computed, ComputedFrames):
            return super().report(finished, loading)
        each = [replace(finished, computed=replace(computed, outcome=outcome)) for outcome in computed.outcomes]
        return _sum([super(EnlargingFrames, self).report(one, loading) for one in each])


def _picture(rows: Sequence[Pixels], frame: ImageData) -> ImageData:
    """Rows with the channels of a frame, (n, W, C), as a picture of it."""
    channels = np.concatenate(rows)
    alpha = None if frame.alpha is None else np.ascontiguousarray(channels[..., -1])
    colours = channels if alpha is None else channels[..., :-1]
    rgb = np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else np.ascontiguousarray(colours)
    return ImageData(rgb, alpha, frame.grey)


def _sum(reports: Sequence[Report]) -> Report:
    """One report of many frames; a cut is the whole film's only if it is every frame's."""
    counts = tuple(sum(counts) for counts in zip(*(report.routing.branch_pixels for report in reports), strict=True))
    first = reports[0]
    cuts = first.routing.cuts if len({report.routing.cuts for report in reports}) == 1 else ()
    rule = first.routing.rule if first.budget is None else f"{first.routing.rule} a frame"
    routing = replace(first.routing, rule=rule, cuts=cuts, branch_pixels=counts, heavy_share=counts[-1] / sum(counts))
    return replace(
        first,
        routing=routing,
        budget=_sum_budgets([report.budget for report in reports if report.budget is not None]),
        tiles=sum(report.tiles for report in reports),
        paper=_sum_gflops([report.paper for report in reports]),
        executed=_sum_gflops([report.executed for report in reports]),
    )


def _sum_budgets(budgets: Sequence[BudgetReport]) -> BudgetReport | None:
    if not budgets:
        return None
    first = budgets[0]
    # Each tells the GFLOPs of its frame, but the seconds of all.
    spent = first.spent if first.unit == "seconds" else sum(budget.spent for budget in budgets)
    return replace(first, asked=sum(budget.asked for budget in budgets), spent=spent)


def _sum_gflops(gflops: Sequence[Gflops]) -> Gflops:
    originals = [one.original for one in gflops if one.original is not None]
    return Gflops(
        sum(one.pcsr for one in gflops), sum(one.all_heavy for one in gflops), sum(originals) if originals else None
    )
