"""Upscale one image file in three steps: read, compute, write. A loop, a thread or a cluster worker may call the
steps."""

import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from pcsr_cli.api import start_upscale, working_scale
from pcsr_cli.engine.grid import hr_size
from pcsr_cli.engine.memory import free_memory
from pcsr_cli.engine.output import output_rows
from pcsr_cli.engine.routing import Forced, Size, to_budget
from pcsr_cli.engine.rules import Routing, default_routing, usual_refine
from pcsr_cli.engine.upscale import HrRows, Outcome, Settings
from pcsr_cli.engine.wrap import reach, unwrapped, wrapped
from pcsr_cli.errors import InputError, ScaleError, in_full
from pcsr_cli.images.animation import Animation, Frame, is_animated, open_animation, open_frame_writer
from pcsr_cli.images.files import Fingerprint, fingerprint, is_file, reason
from pcsr_cli.images.formats import Format, SaveOptions, check_animated, fit
from pcsr_cli.images.image import ImageData, Layout, Pixels, fill_transparent, flatten
from pcsr_cli.images.objects import ObjectPath
from pcsr_cli.images.read import FetchedObject, fetch, open_source, read_image, read_layout, source_name
from pcsr_cli.images.source import SourceKind
from pcsr_cli.images.write import open_destination, open_writer, output_name
from pcsr_cli.jobs.choice import ModelChoice
from pcsr_cli.jobs.maps import RoutingRows, open_map, read_forced
from pcsr_cli.jobs.plan import least_memory
from pcsr_cli.jobs.report import Report, Seconds, make_report, text_chunks
from pcsr_cli.jobs.request import Job, Request, format_of
from pcsr_cli.model.flops import GIGA, model_costs, original_flops
from pcsr_cli.model.registry import LoadedModel
from pcsr_cli.model.spec import check_scale

Content = TypeVar("Content")

FRAME_PIXEL_BYTES = 4
"""Bytes per pixel of a frame (RGBA). Memory holds one copy of each LR frame and up to two copies of each HR frame."""

CERTAIN_MEMORY = 2**25
"""Bytes that an image may need without a look at the free memory."""

SMALL_IMAGE = 2**16
"""LR pixels of an image that is computed by one thread, beside others. A second thread adds a third to the processor
time of an image of 64x64, and a tenth at 420x276."""

ROWS_AT_ONCE = 256
"""Rows of an image that are converted at once, if the image is only reduced or copied."""


@dataclass(frozen=True)
class JobInput:
    """The image or animation of a job, checked against the output's format, its model and its routing.

    ``kind`` is the kind of the source if the model was chosen by it. ``working_scale`` is the scale of the model, None
    if the image is only copied or reduced. A ``copied`` file keeps its bytes.
    ``image`` is the first of ``frames``, with the file's metadata. ``plays`` is the number of plays of an animation, 0
    for endless repetition. ``content`` is the file's fingerprint, None if no fingerprint is recorded. ``began``
    is the time when reading began, ``seconds`` its duration.
    """

    image: ImageData
    frames: tuple[Frame, ...]
    plays: int
    kind: SourceKind | None
    model: LoadedModel
    scale: float
    working_scale: float | None
    refine: int
    content: Fingerprint | None
    format: Format
    layout: Layout
    routing: Routing
    notes: tuple[str, ...]
    began: float
    seconds: float
    copied: bool = False
    forced: Forced | None = None
    map: RoutingRows | None = None

    @property
    def moving(self) -> bool:
        """Whether this is an animation."""
        return len(self.frames) > 1


class Computation(Iterator[Pixels]):
    """Computes the rows of a job's result, frame by frame, while they are taken.

    ``outcomes`` has one outcome per complete frame. ``ended`` is the time when the last frame was complete."""

    def __init__(self, rows: Callable[["Computation"], Generator[Pixels, None, None]]) -> None:
        self.outcomes: list[Outcome] = []
        self.began = self.ended = time.perf_counter()
        self._rows = rows(self)

    def __next__(self) -> Pixels:
        return next(self._rows)

    def close(self) -> None:
        """Cancel the remaining rows."""
        self._rows.close()


class Upscaler:
    """Runs the three steps for the jobs of a run. ``models`` is one model, or a choice for each image.

    ``progress`` is called with the computed share of a job, ``record`` with each finished file before it is moved into
    place. Fingerprints are computed only if ``record`` is given. With ``request.frames``, still images are refused
    unless ``stills`` is true."""

    def __init__(
        self,
        models: LoadedModel | ModelChoice,
        request: Request,
        *,
        progress: Callable[[Job, float], None] | None = None,
        record: Callable[[Job, JobInput, Path], None] | None = None,
        stills: bool = True,
    ) -> None:
        self.models = models if isinstance(models, ModelChoice) else ModelChoice.single(models)
        self.request = request
        if request.target is None:
            check_scale(request.scale)  # an unsupported scale is an error before any image is read
        self._progress = progress
        self._record = record
        self._stills = stills

    def read(self, job: Job) -> JobInput:
        """Read an image and check that its result can be written.

        Raises InputError, RefusedOutputError, UsageError, and the errors of loading a model."""
        began = time.perf_counter()
        if isinstance(job.source, ObjectPath):
            return self._read_object(job, job.source)
        request = self.request
        (image, frames, plays), content = self._with_fingerprint(job, lambda: self._frames(job))
        format = format_of(job.output, request)
        if len(frames) > 1:
            check_animated(format)
        if request.background is not None and not format.alpha:
            image = flatten(image, request.background)
            frames = (replace(frames[0], image=image),)
        reached = request.is_reached(image.size)
        copied = reached and request.if_larger != "shrink" and self._keeps_bytes(job, format)
        scale = 1.0 if reached and request.if_larger != "shrink" else request.scale_of(image.size)
        if request.wrap and scale % 1:
            raise ScaleError(f"A wrapped image needs an integer scale, not {in_full(scale)}.", "Give an integer.")
        size, notes = hr_size(image.size, scale), image.notes
        if len(frames) > 1:
            wanted = Layout(*size, False, any(frame.image.alpha is not None for frame in frames))
            notes = (f"{len(frames)} frames were {'resized' if reached else 'enlarged'}",)
        else:
            wanted = Layout(*size, image.grey, image.alpha is not None, image.depth)
        layout, changes = fit(wanted, format, image.metadata.stripped() if request.save.strip else image.metadata)
        kind = self.models.find_kind(job.source, image.rgb)
        model = self.models.get(kind)
        working = None if reached else working_scale(model, scale)
        if request.wrap and working:
            notes = (*notes, f"a border of {reach(model.network)} pixels from the opposite edges was computed too")
        forced, routing_rows = None, None
        if working is not None:
            working_size = hr_size(image.size, working)
            forced = read_forced(request.force_heavy, request.force_light, image.size, size, working_size)
            counts = (0, 0) if forced is None else forced.counts
            if request.map is not None:
                routing_rows = RoutingRows(working_size, model.network.spec.branches, counts)
        return JobInput(
            image=image,
            frames=frames,
            plays=plays,
            kind=kind,
            model=model,
            scale=scale,
            working_scale=working,
            refine=usual_refine(scale) if request.refine is None else request.refine,
            content=content,
            format=format,
            layout=layout,
            routing=self._routing_for(image.size, model, working),
            notes=(*(() if copied else (*notes, *changes)), *_note_of_resizing(model, scale, working)),
            began=began,
            seconds=time.perf_counter() - began,
            copied=copied,
            forced=forced,
            map=routing_rows,
        )

    def _read_object(self, job: Job, path: ObjectPath) -> JobInput:
        began = time.perf_counter()
        source = fetch(path)
        read = self.read(replace(job, source=source))
        return replace(read, content=source.content, began=began, seconds=time.perf_counter() - began)

    def is_small(self, read: JobInput) -> bool:
        """Whether an image has so few pixels that one thread computes it in nearly the time of several."""
        height, width = read.image.size
        return read.model.network.device.type == "cpu" and not read.moving and height * width <= SMALL_IMAGE

    def compute(self, job: Job, read: JobInput) -> Computation:
        """Upscale an image. The image is computed while the rows are taken."""
        return Computation(lambda computation: self._rows(job, read, computation))

    def write(self, job: Job, read: JobInput, rows: Iterable[Pixels]) -> float:
        """Write the rows of a result. Returns the time when the file was in place. Raises OutputError."""
        request, metadata = self.request, read.image.metadata
        text = None
        if read.working_scale is not None:
            text = text_chunks(read.model.identity, read.routing, read.refine, read.scale, read.kind)

        def before_placing(file: Path) -> None:
            if self._record is not None:
                self._record(job, read, file)

        if read.copied and isinstance(job.source, Path):
            with open_destination(job.output, before_placing, job.replace) as copy, open_source(job.source) as source:
                shutil.copyfileobj(source, copy)
            return time.perf_counter()
        if read.moving:
            size = (read.layout.height, read.layout.width)
            with open_frame_writer(
                job.output, read.format, size, read.plays, metadata, text, request.save, before_placing, job.replace
            ) as frames:
                for frame, image in zip(read.frames, _images(rows, read), strict=True):
                    frames.add(image, frame.milliseconds)
            return time.perf_counter()
        with ExitStack() as stack:  # the map is moved into place last: no map without a result
            if request.map is not None and read.map is not None:
                rows = stack.enter_context(open_map(request.map, read.map, read.layout)).tap(rows)
            out = stack.enter_context(
                open_writer(
                    job.output, read.format, read.layout, metadata, text, request.save, before_placing, job.replace
                )
            )
            out.write_all(rows)
        return time.perf_counter()

    def report(self, job: Job, read: JobInput, computation: Computation, written: float) -> Report:
        """Return the report of a finished job. ``written`` is the time when its file was in place."""
        return make_report(
            read.model,
            computation.outcomes,
            read.routing,
            read.refine,
            source=source_name(job.source),
            output=output_name(job.output),
            input_size=read.image.size,
            output_size=(read.layout.height, read.layout.width),
            scale=read.scale,
            working_scale=read.scale if read.working_scale is None else read.working_scale,
            seconds=Seconds(read.seconds, computation.ended - computation.began, max(0.0, written - computation.ended)),
            notes=read.model.notes + read.notes,
            source_kind=read.kind,
        )

    def _frames(self, job: Job) -> tuple[ImageData, tuple[Frame, ...], int]:
        """Read the image with its metadata, all frames, and the number of plays."""
        huge = self.request.allow_huge
        if not self.request.frames or (self._stills and not is_animated(job.source)):
            if not huge:
                self._check_image(job)
            image = read_image(job.source, huge, self.request.accept_damaged)
            return image, (Frame(image, 0.0),), 0
        with open_animation(job.source, huge) as animation:
            if not huge:
                self._check_animation(animation, source_name(job.source))
            frames = tuple(animation.frames)
            notes = (*frames[0].image.notes, *animation.notes)
            return replace(frames[0].image, metadata=animation.metadata, notes=notes), frames, animation.plays

    def _check_image(self, job: Job) -> None:
        """Raise InputError if an image and its result surely need more than the free memory."""
        try:
            layout = read_layout(job.source)
        except InputError:  # reading it explains the error, unless damage is accepted
            return
        collected = 0 if format_of(job.output, self.request).streamed else layout.height * layout.row_bytes
        scale = self.request.scale_of((layout.height, layout.width))
        needed = least_memory(layout, scale, int(collected * scale * scale))
        if needed > CERTAIN_MEMORY and needed > (free := free_memory(torch.device("cpu"))):
            raise InputError(
                f"{source_name(job.source)} ({layout.width:,} x {layout.height:,}) needs at least {_gib(needed)} "
                f"of memory, more than the free memory ({_gib(free)}).",
                "Close other programs, or use a smaller scale.",
                setting="allow_huge",
            )

    def _check_animation(self, animation: Animation, name: str) -> None:
        """Raise InputError if the frames need more than half of the free memory. Pillow encodes all frames at once."""
        height, width = animation.size
        hr_height, hr_width = hr_size(animation.size, self.request.scale_of(animation.size))
        needed = FRAME_PIXEL_BYTES * animation.count * (height * width + 2 * hr_height * hr_width)
        limit = free_memory(torch.device("cpu")) // 2
        if needed > limit:
            raise InputError(
                f"The {animation.count:,} frames of {name} need up to {_gib(needed)} of memory, "
                f"more than half of the free memory ({_gib(limit)}).",
                "Use a smaller scale or fewer frames.",
                setting="allow_huge",
            )

    def _rows(self, job: Job, read: JobInput, computation: Computation) -> Generator[Pixels, None, None]:
        """Yield the rows of every frame, and record outcomes and times in ``computation``."""
        request = self.request
        if read.working_scale is None:
            for frame in () if read.copied else read.frames:
                yield from _without_network(frame.image, (read.layout.height, read.layout.width), read.layout.depth)
            computation.ended = time.perf_counter()
            return
        settings = Settings(
            read.routing,
            refine=read.refine,
            tile=request.tile,
            memory=request.memory,
            forced=read.forced,
            exact=request.wrap is not None,
        )
        computation.began = time.perf_counter()
        border = reach(read.model.network) if request.wrap is not None else 0

        def progress(share: float) -> None:
            if self._progress is not None:
                self._progress(job, (len(computation.outcomes) + share) / len(read.frames))

        for frame in read.frames:
            image, depth = frame.image, read.layout.depth
            if request.wrap is not None:
                image = wrapped(image, request.wrap, border)
            upscaling = start_upscale(
                image,
                read.model,
                read.scale,
                settings,
                depth if request.strength == 1 else None,
                p_heavy=request.map is not None and request.map.needs_p_heavy,
                progress=progress,
            )
            hr_rows = upscaling if read.map is None else read.map.record(upscaling, upscaling.decision)
            size = hr_size(image.size, read.scale)
            rows = output_rows(hr_rows, image, upscaling.plan.hr_size, size, depth, request.strength)
            if request.wrap is not None:
                size = read.layout.height, read.layout.width
                rows = unwrapped(rows, size, request.wrap, round(border * read.scale))
            yield from rows
            computation.outcomes.append(upscaling.outcome)
        computation.ended = time.perf_counter()

    def _with_fingerprint(self, job: Job, read: Callable[[], Content]) -> tuple[Content, Fingerprint | None]:
        """Return the result of ``read``, and the fingerprint of its file if results are recorded.

        Raises InputError if the file changed meanwhile."""
        path = job.source
        if self._record is None or not isinstance(path, Path) or not is_file(path):
            return read(), None
        try:
            before = path.stat()
            content = fingerprint(path)
            result = read()
            after = path.stat()
        except OSError as error:
            raise InputError(f"Cannot read {path}: {reason(error)}.", "Check the path.") from error
        if any(getattr(before, name) != getattr(after, name) for name in ("st_ino", "st_size", "st_mtime_ns")):
            raise InputError(f"{path} was changed while it was read.", "Run the command again.")
        return result, content

    def _keeps_bytes(self, job: Job, format: Format) -> bool:
        """Return whether a file that needs no change can be copied as it is."""
        if not isinstance(job.source, Path | FetchedObject):
            return False
        is_plain = self.request.save == SaveOptions() and not self.request.background
        return is_plain and Path(source_name(job.source)).suffix.lower() in format.suffixes

    def _routing_for(self, lr_size: tuple[int, int], model: LoadedModel, working: float | None) -> Routing:
        """Return the requested routing, or the one that meets the budget for an image of this size, or the default.

        Raises UsageError for a budget that cannot be met."""
        if self.request.routing is not None:
            return self.request.routing
        if self.request.allowance is None or working is None:
            return default_routing(model.network.spec.branches)
        lr_pixels, result = lr_size[0] * lr_size[1], hr_size(lr_size, working)
        original = original_flops(model.identity.original, working, lr_pixels)
        size = Size(lr_pixels, result[0] * result[1])
        costs = model_costs(model.network)
        return to_budget(self.request.allowance, costs, size, None if original is None else original.paper / GIGA)


def _note_of_resizing(model: LoadedModel, scale: float, at: float | None) -> tuple[str, ...]:
    if at is None:
        return ("already that large: " + ("copied" if scale == 1 else "reduced bicubically"),)
    if at == scale:
        return ()
    way = "reduced" if at > scale else "enlarged"
    return (f"the model was trained for {model.scales}: enlarged x{at:g}, then {way} bicubically to x{scale:g}",)


def _without_network(image: ImageData, size: tuple[int, int], depth: int) -> Iterator[Pixels]:
    """Yield the rows of an image that is reduced bicubically, or unchanged if it has this size."""
    pixels = image.rgb if image.size == size else fill_transparent(image.rgb, image.alpha)
    parts = (pixels[top : top + ROWS_AT_ONCE] for top in range(0, len(pixels), ROWS_AT_ONCE))
    numbers = (torch.from_numpy(part.astype(np.float32) / np.float32(2**image.depth - 1)) for part in parts)
    rows = (HrRows(rgb, torch.empty(0)) for rgb in numbers)
    return output_rows(rows, image, image.size, size, depth)


def _gib(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB"


def _images(rows: Iterable[Pixels], read: JobInput) -> Iterator[ImageData]:
    """Assemble the rows of an animation into one image per frame, with the channels of that frame."""
    blocks: list[Pixels] = []
    frames = iter(read.frames)
    for block in rows:
        blocks.append(block)
        if sum(map(len, blocks)) == read.layout.height:
            frame, channels = next(frames).image, np.concatenate(blocks)
            alpha = None if frame.alpha is None else np.ascontiguousarray(channels[..., -1])
            colours = channels if alpha is None else channels[..., :-1]
            rgb = np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else np.ascontiguousarray(colours)
            yield ImageData(rgb, alpha, frame.grey)
            blocks.clear()
