"""``pcsr upscale``: a picture in, a larger one out, or a folder of them, and the truth about what it took."""

import time
from typing import TYPE_CHECKING

from pcsr_cli.cli import options
from pcsr_cli.cli import upscale_options as own
from pcsr_cli.errors import UsageError

if TYPE_CHECKING:
    from pcsr_cli.model.registry import LoadedModel


def command(
    paths: own.Paths,
    scale: own.Scale = 4.0,
    model: options.Model = "auto",
    threshold: options.Threshold = None,
    k: options.Tradeoff = None,
    adm: options.Adaptive = False,
    budget: options.Budget = None,
    refine: options.Refine = None,
    no_refine: options.NoRefine = False,
    device: options.Device = "auto",
    tile: options.Tile = "auto",
    memory: options.Memory = "auto",
    precision: options.PrecisionName = "auto",
    registry: options.RegistryFile = None,
    format: own.FormatName = None,
    quality: own.Quality = None,
    lossless: own.Lossless = False,
    compression: own.Compression = None,
    strip: own.Strip = False,
    frames: own.Frames = False,
    allow_huge: own.AllowHuge = False,
    overwrite: options.Overwrite = False,
    out_dir: own.OutDir = None,
    recursive: own.Recursive = False,
    name: own.Name = None,
    skip_existing: own.SkipExisting = False,
    fail_fast: own.FailFast = False,
    jobs: own.Jobs = None,
    map: own.MapFile = None,
    map_style: own.MapStyle = None,
    force_heavy: own.ForceHeavy = None,
    force_light: own.ForceLight = None,
    preview: own.Preview = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Enlarge a picture, or many."""
    options.check_talk(json, quiet)
    options.check_apart({"--preview": preview, "--quiet": quiet})
    options.check_apart({"--overwrite": overwrite, "--skip-existing": skip_existing})
    for option, mask in {"--map": map, "--force-heavy": force_heavy, "--force-light": force_light}.items():
        options.check_apart({"--frames": frames, option: mask is not None})
    started = time.perf_counter()
    if map is None and map_style is not None:
        raise UsageError("--map-style has no use without a map.", "Say where it goes with --map FILE.")
    work = own.choose_work(paths, out_dir, name, recursive, skip_existing, fail_fast, jobs)
    if isinstance(work, own.Batch):
        own.check_single(
            {"--map": map, "--force-heavy": force_heavy, "--force-light": force_light, "--preview": preview}
        )
    from pcsr_cli.api import check_scale
    from pcsr_cli.cli import upscale_many, upscale_one
    from pcsr_cli.engine.device import resolve_device, resolve_precision
    from pcsr_cli.engine.routing import parse_allowance
    from pcsr_cli.images.formats import SaveOptions
    from pcsr_cli.jobs.maps import request_map
    from pcsr_cli.jobs.request import Request

    check_scale(scale)
    request = Request(
        scale=scale,
        routing=options.choose_routing(threshold, k, adm, budget),
        allowance=None if budget is None else parse_allowance(budget),
        refine=options.choose_refine(refine, no_refine, scale),
        tile=options.choose_tile(tile),
        memory=options.choose_memory(memory),
        format=format,
        save=SaveOptions(quality, lossless, compression, strip),
        allow_huge=allow_huge,
        frames=frames,
        map=None if map is None else request_map(map, map_style, overwrite),
        force_heavy=force_heavy,
        force_light=force_light,
    )
    resolve_precision(precision, resolve_device(device))

    def load() -> "LoadedModel":
        return options.load_model(model, device, precision, registry, scale, quiet)

    if isinstance(work, own.Batch):
        upscale_many.run(work, request, load, overwrite, json, quiet)
    else:
        upscale_one.run(work, request, load, overwrite, json, quiet, started, preview)
