"""The recipe of a training run, read from a TOML file.

Each table of the file is a struct and each key is a field. msgspec checks types, ranges and unknown keys."""

import tomllib
from pathlib import Path, PurePath
from typing import Annotated, Literal

from msgspec import Meta, field
from msgspec.structs import asdict

from pcsr_cli.errors import TrainingError
from pcsr_cli.images.degrade import MAX_BLUR, MAX_NOISE
from pcsr_cli.images.files import read_text, reason
from pcsr_cli.model import spec as network
from pcsr_cli.model.spec import ModelSpec, Scales, Table, convert

MAX_NUMBER = 10**15
MAX_REDUCTIONS = 64
MAX_BATCH = 2**16
MAX_PATCH = 2**14
"""Maximum side of a patch, and of a crop, in pixels."""

Count = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
Positive = Annotated[float, Meta(gt=0, le=MAX_NUMBER)]
NotNegative = Annotated[float, Meta(ge=0, le=MAX_NUMBER)]
Side = Annotated[int, Meta(ge=1, le=MAX_PATCH)]
AtLeastOne = Annotated[float, Meta(ge=1, le=MAX_NUMBER)]
Share = Annotated[float, Meta(ge=0, le=1)]
STATE_NAME = "state.pt"
LOG_NAME = "log.jsonl"
"""The names of the files of a run."""

CORRECT = "Correct the recipe."


class SourceConfig(Table, frozen=True):
    """A folder of training images. Each image is used once per reduction, shrunk by that factor with antialiasing.

    Lossy images need reductions of 2 or more to remove compression artefacts from the ground truth. ``exclude`` holds
    patterns of file names. ``title`` and ``licence`` go into the model card."""

    path: str
    reductions: Annotated[tuple[AtLeastOne, ...], Meta(min_length=1, max_length=MAX_REDUCTIONS)] = (1.0,)
    exclude: tuple[str, ...] = ()
    licence: str = ""
    title: str = ""

    def __post_init__(self) -> None:
        for pattern in self.exclude:
            PurePath("name").match(pattern)  # raises ValueError for an empty pattern


class DataConfig(Table, frozen=True):
    """The training images. The images are cut into squares of ``patch`` pixels. The most detailed ``keep`` share of the
    squares is used."""

    sources: Annotated[tuple[SourceConfig, ...], Meta(min_length=1)]
    cache: str = "cache"
    patch: Side = 192
    keep: Annotated[float, Meta(gt=0, le=1)] = 0.7


class ModelConfig(Table, frozen=True):
    """The network: backbone and hidden sizes of the samplers, lightest first, and of the classifier.

    With ``branches`` > 0, the backbone's 3x3 convolutions get additional branches in stage 1. The branches are
    ``branches`` times as wide as the convolution, and are merged into the convolution at the end. ``start`` is a folder
    with the weights to start from."""

    samplers: network.Samplers
    backbone: str = "dense"
    width: network.Size = 32
    depth: network.Depth | None = None
    classifier: network.Hidden = ()
    mean: network.Mean = network.NO_MEAN
    branches: Annotated[int, Meta(ge=0, le=8)] = 0
    start: str | None = None

    def __post_init__(self) -> None:
        _ = self.spec  # checks the backbone

    @property
    def spec(self) -> ModelSpec:
        """The description of the network."""
        backbone = network.BackboneSpec(self.backbone, self.width, self.depth)
        return ModelSpec(backbone, self.samplers, self.classifier, self.mean)


class ScaleShare(Table, frozen=True):
    """A range of scales (``low`` = ``high`` for a fixed scale) and its relative share of the batches."""

    low: network.Scale
    high: network.Scale
    share: Positive = 1.0

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is larger than high")


class Range(Table, frozen=True):
    """A degradation: the share of crops that are degraded, and the range from which the strength is drawn evenly."""

    share: Share
    low: NotNegative
    high: NotNegative

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is larger than high")


class DegradationConfig(Table, frozen=True):
    """Degradations of LR crops, in the order in which they are applied.

    ``twice`` is the share of crops whose HR image is saved as JPEG before it is reduced. ``reductions`` gives each
    filter its share of the batches. ``blur`` has a sigma in LR pixels, ``noise`` one in 8-bit values. At most one codec
    follows, with a range of qualities: ``jpeg``, with shares of chroma ``subsamplings``, or ``webp``."""

    twice: Share = 0.0
    reductions: dict[Literal["bicubic", "area", "bilinear", "lanczos"], Positive] = field(
        default_factory=lambda: {"bicubic": 1.0}
    )
    blur: Range | None = None
    noise: Range | None = None
    jpeg: Range | None = None
    subsamplings: dict[Literal["420", "422", "444"], Positive] = field(default_factory=lambda: {"420": 1.0})
    webp: Range | None = None

    def __post_init__(self) -> None:
        codecs = [codec for codec in (self.jpeg, self.webp) if codec is not None]
        if any(codec.low < 1 or codec.high > 100 for codec in codecs):
            raise ValueError("the quality of jpeg and webp is from 1 to 100")
        if sum(codec.share for codec in codecs) > 1:
            raise ValueError("the shares of jpeg and webp are together more than 1")
        for name, strength, most in (("blur", self.blur, MAX_BLUR), ("noise", self.noise, MAX_NOISE)):
            if strength is not None and strength.high > most:
                raise ValueError(f"{name} is at most {most:g}")
        if not self.reductions or not self.subsamplings:
            raise ValueError("reductions and subsamplings are not empty")


class StageConfig(Table, frozen=True):
    """The settings of one stage.

    ``batch`` is the total over all processes, ``crop`` the side of an LR crop, and ``pixels`` roughly the number of HR
    pixels per crop that the samplers predict in one iteration. ``float32_tail`` and ``square_tail`` are shares of the
    iterations, at the end of the stage. During ``float32_tail``, ``precision`` has no effect. During ``square_tail``,
    the first stage minimises the mean squared error, which PSNR measures, instead of L1. ``balance`` and
    ``heavy_share`` affect the second stage only."""

    iterations: Count
    batch: Annotated[int, Meta(ge=1, le=MAX_BATCH)] = 16
    crop: Side = 32
    pixels: Count = 4096
    learning_rate: Positive = 1e-3
    final_learning_rate: NotNegative = 1e-7
    warmup: Annotated[int, Meta(ge=0, le=MAX_NUMBER)] = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    float32_tail: Share = 0.1
    square_tail: Share = 0.0
    ema: Annotated[float, Meta(ge=0, lt=1)] = 0.999
    clip: Positive = 1.0
    balance: NotNegative = 3.0
    heavy_share: Annotated[float, Meta(gt=0, lt=1)] = 0.5


class ValidationConfig(Table, frozen=True):
    """The validation on a folder of HR images, at integer ``scales``. ``every`` is the number of iterations between two
    validations."""

    path: str
    every: Count = 5000
    scales: Annotated[tuple[Count, ...], Meta(min_length=1)] = (4,)


class Recipe(Table, frozen=True):
    """The content of a recipe file."""

    name: str
    model: ModelConfig
    data: DataConfig
    scales: Annotated[tuple[ScaleShare, ...], Meta(min_length=1)]
    stage1: StageConfig
    stage2: StageConfig
    degradation: DegradationConfig | None = None
    seed: Annotated[int, Meta(ge=0, le=MAX_NUMBER)] = 0
    licence: str = "MIT"
    validation: ValidationConfig | None = None
    report_every: Count = 50
    checkpoint_every: Count = 1000


class TrainConfig(Recipe, frozen=True):
    """A recipe, and the ``folder`` to which the paths in the recipe are relative."""

    folder: Path = Path()

    @property
    def stages(self) -> tuple[StageConfig, StageConfig]:
        """The first and the second stage."""
        return self.stage1, self.stage2

    @property
    def trained_scales(self) -> Scales:
        """The scales of the finished model: all real scales between the extremes, or a list of fixed scales."""
        continuous = any(share.low < share.high for share in self.scales)
        ends = sorted({end for share in self.scales for end in (share.low, share.high)})
        return Scales((ends[0], ends[-1]) if continuous else tuple(ends), continuous)

    def locate(self, path: str) -> Path:
        """Return a path of the recipe relative to the recipe's folder."""
        return self.folder / path


def load_config(path: Path) -> TrainConfig:
    """Read a recipe. Raises TrainingError if the file is missing or not a valid recipe."""
    try:
        data = tomllib.loads(read_text(path))
    except OSError as error:
        raise TrainingError(f"Cannot read the recipe {path}: {reason(error)}.", "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{path} is not valid TOML: {reason(error)}.", CORRECT) from error
    recipe = convert(data, Recipe, path.name, TrainingError, CORRECT)
    return TrainConfig(**asdict(recipe), folder=path.parent)
