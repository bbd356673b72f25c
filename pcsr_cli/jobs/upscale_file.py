"""One picture on its way: read, enlarged, written; the three steps as a pipeline wants them, with one model for all."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pcsr_cli.api import upscale_onto, working_scale
from pcsr_cli.engine.forced import Forced
from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.routing import Routing, Size, default_routing, to_budget
from pcsr_cli.engine.routing_map import RoutingMap
from pcsr_cli.engine.upscale import Settings
from pcsr_cli.errors import InputError
from pcsr_cli.images.files import Fingerprint, fingerprint, is_file, reason
from pcsr_cli.images.formats import fit
from pcsr_cli.images.image import Layout, Pixels
from pcsr_cli.images.read import read_image, source_name
from pcsr_cli.images.write import PictureWriter, name_of, open_writer
from pcsr_cli.jobs.journal import routing_settings
from pcsr_cli.jobs.maps import open_map, read_forced
from pcsr_cli.jobs.pipeline import Belt, Computed, Finished, Ready, Stages
from pcsr_cli.jobs.report import Report, Seconds, make_report, text_chunks, with_saving
from pcsr_cli.jobs.request import Errand, Request, format_of
from pcsr_cli.model.flops import GIGA, model_costs, original_flops
from pcsr_cli.model.registry import LoadedModel

Got = TypeVar("Got")


Watch = Callable[[Ready], PictureWriter]
"""Asked with a picture before its rows come, gives who looks on as they do; nobody else may change them."""


class Enlarging(Stages):
    """The steps for every picture of a run. ``progress`` hears the share of the picture that is being computed,
    ``watch`` gives who sees the rows of a result as they are written, ``record`` hears of each finished file before it
    is put in its place; then files are read with their fingerprints."""

    def __init__(
        self,
        model: LoadedModel,
        request: Request,
        progress: Callable[[Errand, float], None] | None = None,
        record: Callable[[Errand, Ready, Path], None] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.model = model
        self.request = request
        self.at = working_scale(model, request.scale)
        self._progress = progress
        self._record = record
        self._watch = watch

    def read(self, item: Errand) -> Ready:
        """Read a picture and see that its result can be had. Raises InputError, RefusedOutputError, UsageError."""
        began = time.perf_counter()
        picture, content = self.with_content(item, lambda: read_image(item.source, self.request.allow_huge))
        format = format_of(item.output, self.request)
        wanted = Layout(
            *hr_size(picture.size, self.request.scale), picture.grey, picture.alpha is not None, picture.depth
        )
        layout, notes = fit(wanted, format, None if self.request.save.strip else picture.metadata)
        routing = self.routing_for(picture.size)
        notes = (*picture.notes, *notes, *self.note_of_reduction())
        forced, routed = self._steering(picture.size, (layout.height, layout.width))
        return Ready(picture, content, format, layout, routing, notes, time.perf_counter() - began, forced, routed)

    def with_content(self, item: Errand, read: Callable[[], Got]) -> tuple[Got, Fingerprint | None]:
        """What ``read`` gives, and the content of the file it read if that is to be recorded. Raises InputError where
        the file changed meanwhile."""
        path = item.source
        if self._record is None or not isinstance(path, Path) or not is_file(path):
            return read(), None
        try:
            before = path.stat()
            content = fingerprint(path)
            got = read()
            after = path.stat()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {reason(error)}.", "Check the path.") from error
        if any(getattr(before, name) != getattr(after, name) for name in ("st_ino", "st_size", "st_mtime_ns")):
            raise InputError(f"{path} was changed while it was read.", "Run the command again.")
        return got, content

    def tell_progress(self, item: Errand, share: float) -> None:
        """Tell whoever wants to know how much of a picture is computed."""
        if self._progress is not None:
            self._progress(item, share)

    def tell_finished(self, item: Errand, read: Ready, file: Path) -> None:
        """Tell whoever keeps a record of a finished file that is about to be put in its place."""
        if self._record is not None:
            self._record(item, read, file)

    def onlookers(self, read: Ready) -> list[PictureWriter]:
        """Who sees the rows of a result before they are written."""
        return [] if self._watch is None else [self._watch(read)]

    def _steering(self, size: tuple[int, int], result: tuple[int, int]) -> tuple[Forced | None, RoutingMap | None]:
        """The masks for a picture, and what takes down its routing where a map is wanted. Raises InputError."""
        asked, painted = self.request, hr_size(size, self.at)
        forced = read_forced(asked.force_heavy, asked.force_light, size, result, painted)
        if asked.map is None:
            return forced, None
        counts = (0, 0) if forced is None else forced.counts
        return forced, RoutingMap(*painted, self.model.network.spec.branches, counts)

    def compute(self, item: Errand, read: Ready, belt: Belt[Pixels]) -> Computed:
        """Enlarge a picture, its rows onto the belt as they are done."""
        asked = self.request
        settings = Settings(read.routing, refine=asked.refine, tile=asked.tile, memory=asked.memory, forced=read.forced)
        began = time.perf_counter()

        def progress(share: float) -> None:
            self.tell_progress(item, share)

        outcome = upscale_onto(
            read.picture,
            self.model,
            asked.scale,
            settings,
            Putting(belt),
            progress,
            read.layout.depth,
            routed=read.routed,
        )
        return Computed(read, outcome, began, time.perf_counter())

    def write(self, item: Errand, read: Ready, belt: Belt[Pixels]) -> float:
        """Write what comes on the belt; gives the time when it was in its place. Raises OutputError."""
        asked = self.request
        text = text_chunks(self.model.identity, read.routing, asked.refine, asked.scale)

        def finished(file: Path) -> None:
            self.tell_finished(item, read, file)

        with ExitStack() as stack:  # the map is put in place last: there is none without its result
            takers = self.onlookers(read)
            if asked.map is not None and read.routed is not None:
                takers.append(stack.enter_context(open_map(asked.map, read.routed, read.layout)))
            metadata = read.picture.metadata
            writer = open_writer(
                item.output, read.format, read.layout, metadata, text, asked.save, finished, item.replace
            )
            takers.append(stack.enter_context(writer))  # the last: from then on the rows are its own
            for rows in belt.loads():
                for taker in takers:
                    taker.write(rows)
        return time.perf_counter()

    def report(self, finished: Finished, loading: float = 0.0) -> Report:
        """What is to be said of a picture that is done; ``loading`` are seconds spent before it was read."""
        computed, written = finished.computed, finished.written
        assert computed is not None and written is not None
        ready, asked = computed.ready, self.request
        report = make_report(
            self.model,
            computed.outcome,
            ready.routing,
            asked.refine,
            source=source_name(finished.item.source),
            output=name_of(finished.item.output),
            output_size=(ready.layout.height, ready.layout.width),
            scale=asked.scale,
            working_scale=self.at,
            seconds=Seconds(loading + ready.seconds, computed.ended - computed.began, 0.0),
            notes=self.model.notes + ready.notes,
        )
        return with_saving(report, max(0.0, written - computed.ended), self.model)

    def way(self, output: Path) -> Mapping[str, Any]:
        """All that decides what a result will be, but for its picture; for the journal."""
        asked = self.request
        identity = self.model.identity
        return {
            "scale": asked.scale,
            "routing": routing_settings(asked.allowance or asked.routing or self._usual_routing()),
            "refine": asked.refine,
            "precision": self.model.network.precision,
            "format": format_of(output, asked).name,
            "frames": asked.frames,
            **asdict(asked.save),
            "model": {"name": identity.name, "revision": identity.revision, "sha256": identity.sha256},
        }

    def _usual_routing(self) -> Routing:
        return default_routing(self.model.network.spec.branches)

    def routing_for(self, lr_size: tuple[int, int]) -> Routing:
        """The routing asked for, or the usual one, or the budget for a picture of this size. Raises UsageError where
        that cannot be met."""
        if self.request.routing is not None:
            return self.request.routing
        if self.request.allowance is None:
            return self._usual_routing()
        lr_pixels, result = lr_size[0] * lr_size[1], hr_size(lr_size, self.at)
        original = original_flops(self.model.identity.original, self.at, lr_pixels)
        size = Size(lr_pixels, result[0] * result[1])
        costs = model_costs(self.model.network)
        return to_budget(self.request.allowance, costs, size, None if original is None else original.paper / GIGA)

    def note_of_reduction(self) -> tuple[str, ...]:
        """That results are reduced to the scale asked for, if they are."""
        scale = self.request.scale
        if self.at == scale:
            return ()
        trained = self.model.scales
        return (f"the model was trained for {trained}: enlarged x{self.at:g}, then reduced bicubically to x{scale:g}",)


class Putting:
    """The belt, as something that takes rows."""

    def __init__(self, belt: Belt[Pixels]) -> None:
        self._belt = belt

    def write(self, rows: Pixels) -> None:
        """Put the next rows on it."""
        self._belt.put(rows)
