"""What a model is, as data: frozen specs read from a published ``config.json``.

The file format is the one on the Hub (``encoder_spec``, ``heavy_sampler_spec``, ...); models of our
own add optional keys for what that format leaves out: normalisation, trained scales and samplers between light and
heavy. Unknown keys are refused, so that a misspelt one never passes silently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pcsr_cli.errors import ModelError

Rgb = tuple[float, float, float]

LARGEST = 4096
"""The most channels, blocks, or units of a layer: a config from elsewhere must not build for minutes."""

MOST_LAYERS = 32

LARGEST_SCALE = 1000
MOST_LEVELS = 1e5
"""Of a mean, and of a standard deviation, which is at least its inverse: beyond, float32 holds no picture any more."""

NO_MEAN: Rgb = (0.0, 0.0, 0.0)

DEFAULT_MEANS: dict[str, Rgb] = {"carn": (0.4488, 0.4371, 0.4040)}
"""The mean a published model expects when its folder does not tell; 0 for every other backbone."""

_WIDTH_KEYS = {"carn": "nf", "fsrcnn": "d", "srresnet": "nf", "dense": "width"}
_DEPTH_KEYS = {"dense": "blocks"}


@dataclass(frozen=True)
class Scales:
    """The enlargements a model was trained for: the listed ones, or every real scale between them."""

    values: tuple[float, ...]
    continuous: bool = False

    def __post_init__(self) -> None:
        if not self.values or not all(_is_number(value, 1, LARGEST_SCALE) for value in self.values):
            raise ModelError(
                f"A model's trained scales are numbers from 1 to {LARGEST_SCALE:,}, and at least one of them.",
                "Correct it, or fetch the model again.",
            )
        if not isinstance(self.continuous, bool):
            raise ModelError("continuous is either true or false.", "Correct it, or fetch the model again.")
        object.__setattr__(self, "values", tuple(sorted(map(float, self.values))))

    @property
    def largest(self) -> float:
        """The largest trained scale."""
        return self.values[-1]

    def trained(self, scale: float) -> bool:
        """Whether the model was trained for exactly this scale."""
        if self.continuous:
            return self.values[0] <= scale <= self.values[-1]
        return any(abs(scale - value) < 1e-9 for value in self.values)

    def working_scale(self, scale: float) -> float | None:
        """The trained scale to compute at for ``scale``: itself, or the next larger; None if there is none."""
        if self.trained(scale):
            return scale
        return next((value for value in self.values if value > scale), None)

    def __str__(self) -> str:
        if self.continuous:
            return f"x{self.values[0]:g}..x{self.values[-1]:g}"
        return ", ".join(f"x{value:g}" for value in self.values)


@dataclass(frozen=True)
class BackboneSpec:
    """Which network computes the LR features: its name, channel count and (where it varies) its depth."""

    name: str
    width: int
    depth: int | None = None

    def __post_init__(self) -> None:
        if self.name not in _WIDTH_KEYS:
            known = ", ".join(_WIDTH_KEYS)
            raise ModelError(f"There is no backbone {self.name!r}.", f"Known ones: {known}.")
        has_depth = self.name in _DEPTH_KEYS
        sizes = (self.width, self.depth) if has_depth else (self.width,)
        fits = all(_is_size(size) for size in sizes) and (has_depth or self.depth is None)
        if not fits or (self.name == "carn" and self.width % 4):
            raise ModelError(
                f"The sizes of backbone {self.name} are whole numbers from 1 to {LARGEST:,} (in fours for carn).",
                "Correct it, or fetch the model again.",
            )


@dataclass(frozen=True)
class ModelSpec:
    """A whole PCSR network.

    ``samplers`` lists the hidden sizes of each branch's MLP from the lightest to the heaviest;
    published models have two. ``classifier`` lists the classifier's hidden sizes. Inputs are normalised as
    (x - mean) / std with x in [0, 1]. Whatever way a spec comes in, what it says is checked here. Raises ModelError.
    """

    backbone: BackboneSpec
    samplers: tuple[tuple[int, ...], ...]
    classifier: tuple[int, ...]
    mean: Rgb = NO_MEAN
    std: Rgb = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for hidden in (*self.samplers, self.classifier):
            if len(hidden) > MOST_LAYERS or not all(_is_size(size) for size in hidden):
                raise ModelError(
                    f"Hidden sizes are lists of at most {MOST_LAYERS} whole numbers from 1 to {LARGEST:,}.",
                    "Correct it, or fetch the model again.",
                )
        object.__setattr__(self, "mean", _rgb("mean", self.mean, -MOST_LEVELS))
        object.__setattr__(self, "std", _rgb("std", self.std, 1 / MOST_LEVELS))

    @property
    def branches(self) -> int:
        """M, the number of upsamplers a pixel can be routed to."""
        return len(self.samplers)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST


def _is_number(value: object, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _rgb(name: str, values: Sequence[object], least: float) -> Rgb:
    if len(values) != 3 or not all(_is_number(value, least, MOST_LEVELS) for value in values):
        raise ModelError(
            f"{name} is not three numbers from {least:g} to {MOST_LEVELS:g}.", "Correct it, or fetch the model again."
        )
    red, green, blue = (float(value) for value in values)  # type: ignore[arg-type]
    return red, green, blue


def sampler_names(branches: int) -> tuple[str, ...]:
    """State-dict prefixes of the samplers, lightest first: ``light_sampler``, ..., ``heavy_sampler``."""
    middle = (f"middle_sampler_{index}" for index in range(1, branches - 1))
    return ("light_sampler", *middle, "heavy_sampler")


def parse_config(config: Mapping[str, Any], origin: str) -> tuple[ModelSpec, Scales | None]:
    """Read a published ``config.json`` (already decoded); the scales are None where it does not tell.

    ``origin`` names the file in errors. Raises ModelError for anything missing, misspelt or of a wrong type.
    """
    reader = _Reader(config, origin)
    backbone = _parse_backbone(reader.section("encoder_spec"))
    middle = reader.get("middle_sampler_specs", list, [])
    samplers = (
        _parse_hidden(reader.section("light_sampler_spec")),
        *(_parse_hidden(_Reader(entry, f"{origin}: middle_sampler_specs")) for entry in middle),
        _parse_hidden(reader.section("heavy_sampler_spec")),
    )
    classifier = _parse_hidden(reader.section("classifier_spec"))
    mean = tuple(reader.get("mean", list, list(DEFAULT_MEANS.get(backbone.name, NO_MEAN))))
    std = tuple(reader.get("std", list, [1.0, 1.0, 1.0]))
    values, continuous = reader.get("scales", list, []), reader.get("continuous", bool, False)
    reader.refuse_unknown()
    try:
        spec = ModelSpec(backbone, samplers, classifier, mean, std)
        return spec, Scales(tuple(values), continuous) if values else None
    except ModelError as error:
        raise error.within(origin) from error


def write_config(spec: ModelSpec, scales: Scales) -> dict[str, Any]:
    """The ``config.json`` that ``parse_config`` reads back as the same spec and scales."""

    def sampler(hidden: tuple[int, ...]) -> dict[str, Any]:
        return {"name": "liif-sampler", "args": {"imnet_spec": {"name": "mlp", "args": {"hidden_list": list(hidden)}}}}

    name = spec.backbone.name
    args: dict[str, Any] = {_WIDTH_KEYS[name]: spec.backbone.width, "no_upsampling": True}
    if name in _DEPTH_KEYS:
        args[_DEPTH_KEYS[name]] = spec.backbone.depth
    config: dict[str, Any] = {
        "encoder_spec": {"name": name, "args": args},
        "light_sampler_spec": sampler(spec.samplers[0]),
        "heavy_sampler_spec": sampler(spec.samplers[-1]),
        "classifier_spec": sampler(spec.classifier),
        "mean": list(spec.mean),
        "std": list(spec.std),
        "scales": list(scales.values),
        "continuous": scales.continuous,
    }
    if spec.branches > 2:
        config["middle_sampler_specs"] = [sampler(hidden) for hidden in spec.samplers[1:-1]]
    return config


class _Reader:
    """A mapping read key by key, which knows what was asked for and so what is unknown."""

    def __init__(self, data: object, origin: str) -> None:
        if not isinstance(data, Mapping):
            raise ModelError(f"{origin} is not a table of settings.", "Correct it, or fetch the model again.")
        self.data = data
        self.origin = origin
        self.asked: set[str] = set()

    def get(self, key: str, kind: type, default: object = None) -> Any:
        self.asked.add(key)
        value = self.data.get(key, default)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            if key not in self.data:
                raise ModelError(f"{self.origin}: {key} is missing.", "Correct it, or fetch the model again.")
            raise ModelError(
                f"{self.origin}: {key} is not of type {kind.__name__}.", "Correct it, or fetch the model again."
            )
        return value

    def section(self, key: str) -> "_Reader":
        return _Reader(self.get(key, Mapping), f"{self.origin}: {key}")

    def expect_name(self, known: str) -> None:
        name = self.get("name", str)
        if name != known:
            raise ModelError(
                f"{self.origin}: there is no {name!r}, only {known}.", "Correct it, or fetch the model again."
            )

    def refuse_unknown(self) -> None:
        unknown = sorted(set(self.data) - self.asked)
        if unknown:
            keys = ", ".join(unknown)
            raise ModelError(f"{self.origin} has unknown keys: {keys}.", "Correct it, or fetch the model again.")


def _parse_backbone(reader: _Reader) -> BackboneSpec:
    name = reader.get("name", str)
    args = reader.section("args")
    reader.refuse_unknown()
    if name not in _WIDTH_KEYS:
        known = ", ".join(_WIDTH_KEYS)
        raise ModelError(f"There is no backbone {name!r}.", f"Known ones: {known}.").within(reader.origin)
    width = args.get(_WIDTH_KEYS[name], int)
    depth = args.get(_DEPTH_KEYS[name], int) if name in _DEPTH_KEYS else None
    if not args.get("no_upsampling", bool, True):
        raise ModelError(
            f"{reader.origin}: no_upsampling has to be true: PCSR needs features at LR resolution.",
            "Correct it, or fetch the model again.",
        )
    args.refuse_unknown()
    try:
        return BackboneSpec(name, width, depth)
    except ModelError as error:
        raise error.within(reader.origin) from error


def _parse_hidden(reader: _Reader) -> tuple[int, ...]:
    reader.expect_name("liif-sampler")
    args = reader.section("args")
    net = args.section("imnet_spec")
    net_args = net.section("args")
    net.expect_name("mlp")
    hidden = net_args.get("hidden_list", list)
    for level in (reader, args, net, net_args):
        level.refuse_unknown()
    return tuple(hidden)
