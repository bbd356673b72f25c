"""The description of a PCSR network as frozen structs, read from and written to a ``config.json``.

The file format is the one on the Hub (``encoder_spec``, ``heavy_sampler_spec``, ...), plus optional keys for
normalisation, trained scales, and samplers between light and heavy. msgspec checks types, ranges and unknown keys
during conversion. The ``__post_init__`` methods check rules that involve more than one key."""

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from pcsr_cli.errors import ModelError, PcsrError, ScaleError, in_full

MAX_SIZE = 4096
"""Maximum number of channels, or of units of a layer. The limits of this module bound the time that a downloaded config
can take."""

MAX_DEPTH = 256
MAX_LAYERS = 32
MAX_BRANCHES = 16
MAX_SCALE = 1000
MAX_LEVEL = 1e5
"""Maximum of the mean and of the standard deviation that normalise images. The minimum of the standard deviation is the
inverse of this maximum. With larger values, normalised images would not fit float32."""

Size = Annotated[int, Meta(ge=1, le=MAX_SIZE)]
Hidden = Annotated[tuple[Size, ...], Meta(max_length=MAX_LAYERS)]
Depth = Annotated[int, Meta(ge=1, le=MAX_DEPTH)]
Samplers = Annotated[tuple[Hidden, ...], Meta(min_length=2, max_length=MAX_BRANCHES)]
Scale = Annotated[float, Meta(ge=1, le=MAX_SCALE)]
Rgb = tuple[float, float, float]
_Mean = Annotated[float, Meta(ge=-MAX_LEVEL, le=MAX_LEVEL)]
_Std = Annotated[float, Meta(ge=1 / MAX_LEVEL, le=MAX_LEVEL)]
Mean = tuple[_Mean, _Mean, _Mean]
Std = tuple[_Std, _Std, _Std]

NO_MEAN: Rgb = (0.0, 0.0, 0.0)
UNIT_STD: Rgb = (1.0, 1.0, 1.0)

DEFAULT_MEANS: dict[str, Rgb] = {"carn": (0.4488, 0.4371, 0.4040)}
"""The means of published models whose config has none. Backbones that are not listed use the mean 0."""

TYPE_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a set of keys",
    "null": "nothing",
}
"""Words for the types that the errors of msgspec name, such as `str | null`."""

T = TypeVar("T")


def convert(
    data: object,
    kind: type[T],
    origin: str,
    error: type[PcsrError] = ModelError,
    next_step: str = "Correct it, or fetch the model again.",
) -> T:
    """Build a ``kind`` from plain data as decoded from JSON or TOML.

    Raises ``error`` with a sentence that names ``origin``, the key, and the values allowed there."""
    try:
        return msgspec.convert(data, kind)
    except (msgspec.ValidationError, RecursionError) as problem:
        reason, _, path = str(problem).partition(" - at ")
        key = path.replace("`", "").removeprefix("$").removeprefix(".")
        place = f"{origin}: {key}" if key else origin
        if reason.startswith(("Object contains unknown field", "Invalid enum value")):
            reason += f"; allowed are {_allowed(kind, key)}"
        reason = re.sub("(?<=[Ee]xpected )`[^`]+`|(?<=got )`[^`]+`", _in_words, reason)
        raise error(f"{place} is invalid: {reason[:1].lower()}{reason[1:]}.", next_step) from problem


def _in_words(types: re.Match[str]) -> str:
    return " or ".join(TYPE_NAMES.get(name, name) for name in types[0].strip("`").split(" | "))


def _allowed(kind: type, path: str) -> str:
    """The keys of the struct, or the values of the literal, at a path such as ``data.sources[0]``."""
    info: Any = msgspec.inspect.type_info(kind)
    for part in re.findall(r"\w+", path):
        info = info.item_type if part.isdigit() else {field.encode_name: field.type for field in info.fields}[part]
        if isinstance(info, msgspec.inspect.UnionType):  # an optional struct
            info = info.types[0]
    is_struct = isinstance(info, msgspec.inspect.StructType)
    return ", ".join(field.encode_name for field in info.fields) if is_struct else ", ".join(info.values)


class Table(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a configuration file: immutable, with exactly the declared keys."""


class Scales(Table, frozen=True):
    """The scales a model was trained for: the listed ones, or every real scale between the smallest and the largest."""

    values: Annotated[tuple[Scale, ...], Meta(min_length=1)]
    continuous: bool = False

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "values", tuple(sorted(map(float, self.values))))

    @property
    def largest(self) -> float:
        """The largest trained scale."""
        return self.values[-1]

    def trained(self, scale: float) -> bool:
        """Whether the model was trained for exactly this scale."""
        if self.continuous:
            return self.values[0] <= scale <= self.values[-1]
        return any(abs(scale - value) < 1e-9 for value in self.values)

    def working_scale(self, scale: float) -> float:
        """The scale at which the network runs for a requested ``scale``: the same scale if it is trained, or else the
        next larger trained scale, or else the largest."""
        if self.trained(scale):
            return scale
        return next((value for value in self.values if value > scale), self.largest)

    def __str__(self) -> str:
        if self.continuous:
            return f"x{self.values[0]:g}..x{self.values[-1]:g}"
        return ", ".join(f"x{value:g}" for value in self.values)


class BackboneSpec(Table, frozen=True):
    """The backbone, which computes the LR features: its name, its number of channels and, for ``dense`` and ``bsrn``,
    its number of blocks."""

    name: str
    width: Size
    depth: Depth | None = None

    def __post_init__(self) -> None:
        _check_backbone(self.name)
        if (self.depth is not None) != (self.name in {"dense", "bsrn"}):
            raise ValueError("the backbones dense and bsrn need a depth, the others have none")
        divisor = {"carn": 4, "bsrn": 16}.get(self.name, 1)
        if self.width % divisor:
            raise ValueError(f"the width of the backbone {self.name} must be a multiple of {divisor}")


class ModelSpec(Table, frozen=True):
    """A whole PCSR network.

    ``samplers`` lists the hidden sizes of each branch's MLP, lightest first. Published models have two branches.
    ``classifier`` lists the classifier's hidden sizes. Inputs are normalised as (x - mean) / std with x in [0, 1]."""

    backbone: BackboneSpec
    samplers: Samplers
    classifier: Hidden
    mean: Mean = NO_MEAN
    std: Std = UNIT_STD

    @property
    def branches(self) -> int:
        """M, the number of samplers a pixel can be routed to."""
        return len(self.samplers)


def sampler_names(branches: int) -> tuple[str, ...]:
    """State-dict prefixes of the samplers, lightest first: ``light_sampler``, ..., ``heavy_sampler``."""
    middle = (f"middle_sampler_{index}" for index in range(1, branches - 1))
    return ("light_sampler", *middle, "heavy_sampler")


class _EncoderArgs(Table, frozen=True, kw_only=True):
    """``encoder_spec.args`` of a config.json. Each backbone has its own names for width and depth."""

    no_upsampling: bool = True

    def __post_init__(self) -> None:
        if not self.no_upsampling:
            raise ValueError("no_upsampling must be true, because PCSR needs features at LR resolution")


class _NfArgs(_EncoderArgs, frozen=True, rename={"width": "nf"}):
    width: Size


class _FsrcnnArgs(_EncoderArgs, frozen=True, rename={"width": "d"}):
    width: Size


class _BlocksArgs(_EncoderArgs, frozen=True, rename={"depth": "blocks"}):
    width: Size
    depth: Depth


_ENCODER_ARGS: dict[str, type[_NfArgs | _FsrcnnArgs | _BlocksArgs]] = {
    "carn": _NfArgs,
    "fsrcnn": _FsrcnnArgs,
    "srresnet": _NfArgs,
    "dense": _BlocksArgs,
    "bsrn": _BlocksArgs,
}


class _Encoder(Table, frozen=True):
    name: str
    args: dict[str, Any]

    def __post_init__(self) -> None:
        _check_backbone(self.name)


class _MlpArgs(Table, frozen=True):
    hidden_list: Hidden


class _Mlp(Table, frozen=True):
    name: Literal["mlp"]
    args: _MlpArgs


class _SamplerArgs(Table, frozen=True):
    imnet_spec: _Mlp


class _Sampler(Table, frozen=True):
    name: Literal["liif-sampler"]
    args: _SamplerArgs

    @property
    def hidden(self) -> tuple[int, ...]:
        return self.args.imnet_spec.args.hidden_list


class _Config(Table, frozen=True, kw_only=True):
    encoder_spec: _Encoder
    light_sampler_spec: _Sampler
    middle_sampler_specs: tuple[_Sampler, ...] | UnsetType = UNSET
    heavy_sampler_spec: _Sampler
    classifier_spec: _Sampler
    mean: Mean | UnsetType = UNSET
    std: Std = UNIT_STD
    scales: tuple[Scale, ...] = ()
    continuous: bool = False


def parse_config(config: object, origin: str) -> tuple[ModelSpec, Scales | None]:
    """Read a published ``config.json`` (already decoded); the scales are None if it does not list any.

    ``origin`` names the file in errors. Raises ModelError for missing, misspelt or out-of-range keys and values."""
    read = convert(config, _Config, origin)
    name = read.encoder_spec.name
    args = convert(read.encoder_spec.args, _ENCODER_ARGS[name], f"{origin}: encoder_spec.args")
    middle = read.middle_sampler_specs or ()
    samplers = (read.light_sampler_spec, *middle, read.heavy_sampler_spec)
    spec = {
        "backbone": {"name": name, "width": args.width, "depth": getattr(args, "depth", None)},
        "samplers": [sampler.hidden for sampler in samplers],
        "classifier": read.classifier_spec.hidden,
        "mean": DEFAULT_MEANS.get(name, NO_MEAN) if read.mean is UNSET else read.mean,
        "std": read.std,
    }
    scales = Scales(read.scales, read.continuous) if read.scales else None
    return convert(spec, ModelSpec, origin), scales


def write_config(spec: ModelSpec, scales: Scales) -> dict[str, Any]:
    """Return a ``config.json`` as plain values, from which ``parse_config`` reads the same spec and scales."""

    def sampler(hidden: tuple[int, ...]) -> _Sampler:
        return _Sampler("liif-sampler", _SamplerArgs(_Mlp("mlp", _MlpArgs(hidden))))

    light, *middle, heavy = map(sampler, spec.samplers)
    backbone = spec.backbone
    sizes: dict[str, Any] = {"width": backbone.width, **({"depth": backbone.depth} if backbone.depth else {})}
    config = _Config(
        encoder_spec=_Encoder(backbone.name, msgspec.to_builtins(_ENCODER_ARGS[backbone.name](**sizes))),
        light_sampler_spec=light,
        middle_sampler_specs=tuple(middle) or UNSET,
        heavy_sampler_spec=heavy,
        classifier_spec=sampler(spec.classifier),
        mean=spec.mean,
        std=spec.std,
        scales=scales.values,
        continuous=scales.continuous,
    )
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(config))
    return plain


def _check_backbone(name: str) -> None:
    if name not in _ENCODER_ARGS:
        raise ValueError(f"unknown backbone {name!r}, choose one of {', '.join(_ENCODER_ARGS)}")


MAX_REQUESTED_SCALE = 10_000
"""The largest scale of a request. A larger one is a mistake: one pixel would become a hundred megapixels."""


def check_scale(scale: float) -> None:
    """Raise ScaleError unless the scale is from 1 to ``MAX_REQUESTED_SCALE``."""
    if scale > MAX_REQUESTED_SCALE:
        raise ScaleError(f"A scale of {in_full(scale)} is too large.", f"Use at most {MAX_REQUESTED_SCALE:,}.")
    if not scale >= 1:
        raise ScaleError(f"A scale of {in_full(scale)} does not enlarge.", "Use at least 1.")
