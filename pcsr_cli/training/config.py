"""What a training run is, as data: frozen settings read from a TOML file.

Every table of the file is a dataclass here, every key one of its fields; an unknown key or a wrong type is refused.
"""

import tomllib
import types
import typing
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from pcsr_cli.errors import PcsrError, TrainingError
from pcsr_cli.images.files import read_text, reason
from pcsr_cli.model.spec import NO_MEAN, ModelSpec, Rgb, Scales, convert

LARGEST = 1e15
"""No number of a recipe is larger."""


@dataclass(frozen=True)
class SourceConfig:
    """A folder of pictures: each is used once for every reduction, shrunk by it with antialiasing.

    Lossy pictures want reductions of 2 or more, so that no compression artefact is taken for truth. ``exclude`` holds
    patterns of file names; ``title`` and ``licence`` go into the model card.
    """

    path: Path
    reductions: tuple[float, ...] = (1.0,)
    exclude: tuple[str, ...] = ()
    licence: str = ""
    title: str = ""

    def __post_init__(self) -> None:
        _check(
            bool(self.reductions) and min(self.reductions) >= 1, "data.sources.reductions are numbers of at least 1."
        )


@dataclass(frozen=True)
class DataConfig:
    """Where the pictures are and how they are cut: squares of ``patch`` pixels, the most detailed ``keep`` of them."""

    sources: tuple[SourceConfig, ...]
    cache: Path = Path("cache")
    patch: int = 192
    keep: float = 0.7

    def __post_init__(self) -> None:
        _check(bool(self.sources), "data.sources names at least one folder.")
        _check(0 < self.keep <= 1, "data.keep is a share above 0, at most 1.")


@dataclass(frozen=True)
class ModelConfig:
    """The network: backbone, hidden sizes of the samplers from the lightest to the heaviest, and of the classifier."""

    samplers: tuple[tuple[int, ...], ...]
    backbone: str = "dense"
    width: int = 32
    depth: int | None = None
    classifier: tuple[int, ...] = ()
    mean: Rgb = NO_MEAN

    def __post_init__(self) -> None:
        _check(len(self.samplers) >= 2, "model.samplers lists the hidden sizes of at least two branches.")
        _ = self.spec  # which refuses what is no network

    @property
    def spec(self) -> ModelSpec:
        """The network as the rest of the program knows it."""
        backbone = {"name": self.backbone, "width": self.width, "depth": self.depth}
        network = {"backbone": backbone, "samplers": self.samplers, "classifier": self.classifier, "mean": self.mean}
        return convert(network, ModelSpec, "model")


@dataclass(frozen=True)
class ScaleShare:
    """A range of scales (``low`` = ``high`` for a fixed one) and how often a batch takes its scale from it."""

    low: float
    high: float
    share: float = 1.0

    def __post_init__(self) -> None:
        _check(1 <= self.low <= self.high, "scales go from 1 upward, low to high.")
        _check(self.share > 0, "a share is above 0.")


@dataclass(frozen=True)
class StageConfig:
    """One stage: how long, how fast, on how much.

    ``batch`` is the total over all processes, ``crop`` the side of an LR crop, ``pixels`` about how many HR pixels of a
    crop the samplers are trained on in one iteration. ``float32_tail`` is the share of the run, at its end, that uses
    float32 whatever ``precision`` says; ``square_tail`` the share that minimises the mean square, which is what PSNR
    measures, instead of L1 (in the first stage). ``balance`` and ``heavy_share`` matter in the second stage only.
    """

    iterations: int
    batch: int = 16
    crop: int = 32
    pixels: int = 4096
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-7
    warmup: int = 0
    precision: typing.Literal["float32", "bfloat16"] = "float32"
    float32_tail: float = 0.1
    square_tail: float = 0.0
    ema: float = 0.999
    clip: float = 1.0
    balance: float = 3.0
    heavy_share: float = 0.5

    def __post_init__(self) -> None:
        positive = (self.iterations, self.batch, self.crop, self.pixels, self.learning_rate, self.clip)
        _check(min(positive) > 0, "a stage's iterations, batch, crop, pixels, learning_rate and clip are above 0.")
        _check(
            min(self.final_learning_rate, self.warmup, self.balance) >= 0,
            "a stage's final_learning_rate, warmup and balance are at least 0.",
        )
        _check(0 <= self.ema < 1, "a stage's ema is at least 0 and below 1.")
        tails = (self.float32_tail, self.square_tail)
        _check(min(tails) >= 0 and max(tails) <= 1, "a stage's float32_tail and square_tail are shares, 0 to 1.")
        _check(0 < self.heavy_share < 1, "a stage's heavy_share is a share between 0 and 1.")


@dataclass(frozen=True)
class ValidationConfig:
    """Measure the PSNR on a folder of HR pictures every so many iterations, at some integer scales."""

    path: Path
    every: int = 5000
    scales: tuple[int, ...] = (4,)

    def __post_init__(self) -> None:
        _check(self.every >= 1, "report_every, checkpoint_every and validation.every are at least 1.")
        _check(bool(self.scales) and min(self.scales) >= 1, "validation.scales lists at least one scale, none below 1.")


@dataclass(frozen=True)
class TrainConfig:
    """A whole run."""

    name: str
    model: ModelConfig
    data: DataConfig
    scales: tuple[ScaleShare, ...]
    stage1: StageConfig
    stage2: StageConfig
    seed: int = 0
    licence: str = "MIT"
    validation: ValidationConfig | None = None
    report_every: int = 50
    checkpoint_every: int = 1000
    folder: Path = field(default=Path(), repr=False)

    def __post_init__(self) -> None:
        _check(bool(self.scales), "scales lists at least one range.")
        _check(self.seed >= 0, "seed is at least 0.")
        _check(
            min(self.report_every, self.checkpoint_every) >= 1,
            "report_every, checkpoint_every and validation.every are at least 1.",
        )

    @property
    def stages(self) -> tuple[StageConfig, StageConfig]:
        """Both stages, in order."""
        return self.stage1, self.stage2

    @property
    def trained_scales(self) -> Scales:
        """The scales the model may claim: every real one between the extremes, or a list of fixed ones."""
        continuous = any(share.low < share.high for share in self.scales)
        ends = sorted({end for share in self.scales for end in (share.low, share.high)})
        return Scales((ends[0], ends[-1]) if continuous else tuple(ends), continuous)

    def locate(self, path: Path) -> Path:
        """A path of the recipe, relative to the recipe's own folder."""
        return self.folder / path


def load_config(path: Path) -> TrainConfig:
    """Read a recipe. TrainingError if it is missing, not TOML, or says something unknown; ModelError for a network
    that cannot be."""
    try:
        data = tomllib.loads(read_text(path))
    except FileNotFoundError as error:
        raise TrainingError(f"There is no recipe {path}.", "Check the path.") from error
    except OSError as error:
        raise TrainingError(f"{path} is not a readable TOML file: {reason(error)}.", "Correct the recipe.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"{path} is not a readable TOML file: {error}.", "Correct the recipe.") from error
    config = _build(TrainConfig, data, path.name)
    return TrainConfig(**{**vars(config), "folder": path.parent})


_T = TypeVar("_T")


def _build(kind: type[_T], data: object, origin: str) -> _T:
    """A dataclass from a TOML table, checked key by key."""
    if not isinstance(data, dict):
        raise TrainingError(f"{origin} is not a table.", "Correct the recipe.")
    hints = typing.get_type_hints(kind)
    # What is not shown is not for the recipe to say, either: the folder it lies in.
    known = {entry.name: entry for entry in fields(kind) if entry.repr}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(known))
    if unknown:
        keys = ", ".join(known)
        raise TrainingError(f"{origin}: unknown key {unknown[0]}.", f"Known ones: {keys}.")
    for name, entry in known.items():
        if name not in data and entry.default is MISSING and entry.default_factory is MISSING:
            raise TrainingError(f"{origin}: {name} is missing.", "Correct the recipe.")
    values = {name: _value(hints[name], value, f"{origin}: {name}") for name, value in data.items()}
    try:
        return kind(**values)
    except PcsrError as error:
        raise error.within(origin) from error


def _value(hint: Any, value: object, origin: str) -> Any:
    """One TOML value as the type a field is annotated with."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is types.UnionType:
        hint = next(argument for argument in arguments if argument is not type(None))
        return _value(hint, value, origin)
    if typing.get_origin(hint) is typing.Literal:
        if value not in arguments:
            known = ", ".join(arguments)
            raise TrainingError(f"{origin} is one of {known}, not {value!r}.", "Correct the recipe.")
        return value
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise TrainingError(f"{origin} is not a list.", "Correct the recipe.")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise TrainingError(f"{origin} is not a list of {len(arguments)}.", "Correct the recipe.")
        return tuple(_value(arguments[0], entry, origin) for entry in value)
    if is_dataclass(hint):
        return _build(typing.cast("type[Any]", hint), value, origin)
    if hint is Path:
        return Path(_value(str, value, origin))
    if isinstance(value, bool) or not isinstance(value, int | float if hint is float else hint):
        raise TrainingError(f"{origin} is not of type {hint.__name__}: {value!r}.", "Correct the recipe.")
    if not isinstance(value, int | float):
        return value
    if not abs(value) < LARGEST:
        raise TrainingError(f"{origin} is no number to train with: {value}.", "Correct the recipe.")
    return hint(value)


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise TrainingError(otherwise, "Correct the recipe.")
