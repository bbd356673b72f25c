"""The Python interface: images, arrays and tensors."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pcsr_cli
from pcsr_cli.api import load_model
from pcsr_cli.errors import InputError, PcsrError, ScaleError, UsageError, in_full
from pcsr_cli.images import formats
from pcsr_cli.images.image import to_8_bits
from pcsr_cli.images.read import read_image
from pcsr_cli.images.resize import resize_bicubic
from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.registry import LoadedModel
from pcsr_cli.model.spec import Scales
from tests.failing import fails
from tests.images import levels
from tests.tiny import tiny_model

PUBLIC = "Adaptive LoadedModel PcsrError Threshold Tradeoff Upscaled __version__ load_model upscale"


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder))


@pytest.fixture(scope="module")
def any_scale(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("models") / "any"
    save_folder(tiny_model("dense"), Scales((1.0, 4.0), continuous=True), folder)
    return load_model(str(folder))


def as_tensor(pixels: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def test_the_package_exports_its_public_names() -> None:
    assert pcsr_cli.__all__ == PUBLIC.split()
    assert dir(pcsr_cli) == sorted(PUBLIC.split())
    for name in PUBLIC.split():
        assert getattr(pcsr_cli, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = pcsr_cli.nonsense


def test_the_version_has_three_numbers() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z.]+\d+)?", pcsr_cli.__version__)


def test_an_import_loads_only_the_standard_library() -> None:
    code = "import pcsr_cli, sys; pcsr_cli.PcsrError; print(*{'torch', 'numpy', 'PIL', 'typer'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_an_image_gives_an_image(model: LoadedModel) -> None:
    result = pcsr_cli.upscale(Image.fromarray(levels(5, 7)), model)
    assert (result.image.mode, result.image.size) == ("RGB", (28, 20))
    assert result.branches.shape == (20, 28)
    assert result.branches.dtype == np.uint8
    assert (result.scale, result.working_scale) == (4, 4)


def test_an_array_gives_an_array(model: LoadedModel) -> None:
    pixels = levels(5, 7)
    result = pcsr_cli.upscale(pixels, model).image
    assert (result.shape, str(result.dtype)) == ((20, 28, 3), "uint8")
    assert np.array_equal(result, np.asarray(pcsr_cli.upscale(Image.fromarray(pixels), model).image))
    assert np.array_equal(pixels, levels(5, 7)), "the input was changed"


def test_16_bits_give_16_bits() -> None:
    builtin = load_model("builtin", "cpu")
    # A gradient over a tenth of the range, of which 8 bits have 26 levels.
    gradient = np.linspace(26_000, 32_500, 12 * 48).reshape(12, 48)
    deep = np.repeat(gradient.round().astype(np.uint16)[..., None], 3, axis=2)
    result = pcsr_cli.upscale(deep, builtin, 2).image
    assert (result.dtype, result.shape) == (np.dtype(np.uint16), (24, 96, 3))
    assert len(np.unique(result)) > 1000
    shallow = pcsr_cli.upscale((deep // 257).astype(np.uint8), builtin, 2).image
    assert len(np.unique(shallow)) < 40
    assert np.abs(result / 65_535 - shallow / 255).max() < 0.01


def test_an_array_need_not_be_contiguous_or_writable(model: LoadedModel) -> None:
    pixels = levels(5, 7)
    upside_down = pixels[::-1]
    frozen = np.ascontiguousarray(upside_down)
    frozen.flags.writeable = False
    assert np.array_equal(pcsr_cli.upscale(upside_down, model).image, pcsr_cli.upscale(frozen, model).image)


def test_a_tensor_gives_a_tensor(model: LoadedModel) -> None:
    pixels = levels(5, 7)
    result = pcsr_cli.upscale(as_tensor(pixels), model).image
    assert (result.shape, result.dtype) == ((1, 3, 20, 28), torch.float32)
    rounded = (result[0] * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    assert np.array_equal(rounded, pcsr_cli.upscale(pixels, model).image)
    assert torch.equal(pcsr_cli.upscale(as_tensor(pixels)[0], model).image, result[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_tensor_of_another_precision_gives_float32(model: LoadedModel, dtype: torch.dtype) -> None:
    assert pcsr_cli.upscale(as_tensor(levels(3, 3)).to(dtype), model).image.dtype == torch.float32


def test_a_result_can_be_enlarged_again(model: LoadedModel) -> None:
    # A result is not clamped: its values exceed [0, 1] a little.
    tensor = 1.4 * as_tensor(levels(3, 3)) - 0.2
    assert tensor.min() < 0 < 1 < tensor.max()
    assert pcsr_cli.upscale(tensor, model).image.shape == (1, 3, 12, 12)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, 3),
        torch.zeros(4, 5, 3),
        torch.zeros(2, 3, 4, 4),
        torch.zeros(1, 1, 4, 4),
        torch.zeros(1, 3, 0, 4),
        torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
        torch.zeros(1, 3, 4, 4, dtype=torch.complex64),
    ],
    ids=lambda tensor: f"{tensor.dtype} {tuple(tensor.shape)}",
)
def test_other_tensors_are_refused(model: LoadedModel, tensor: torch.Tensor) -> None:
    with fails(InputError, f"A tensor of {tensor.dtype} {tuple(tensor.shape)} is not an RGB image."):
        pcsr_cli.upscale(tensor, model)


@pytest.mark.parametrize("value", [255.0, -2.0, float("nan"), float("inf")])
def test_values_outside_the_range_are_refused(model: LoadedModel, value: float) -> None:
    tensor = as_tensor(levels(3, 3))
    tensor[0, 1, 2, 0] = value
    with fails(InputError, "The tensor's values are not in [0, 1]."):
        pcsr_cli.upscale(tensor, model)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int16),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_other_arrays_are_refused(model: LoadedModel, array: Any) -> None:
    with fails(InputError, f"An array of {array.dtype} {array.shape} is not an RGB image."):
        pcsr_cli.upscale(array, model)


@pytest.mark.parametrize("value", ["in.png", None, [[1, 2]], b"bytes"])
def test_other_types_are_refused(model: LoadedModel, value: Any) -> None:
    with fails(InputError, f"Cannot upscale a {type(value).__name__}."):
        pcsr_cli.upscale(value, model)


def test_an_image_keeps_its_mode_and_its_profile(model: LoadedModel) -> None:
    for mode in ("L", "LA", "RGB", "RGBA"):
        image = Image.fromarray(levels(4, 5, 4)).convert(mode)
        image.info["icc_profile"] = b"profile"
        result = pcsr_cli.upscale(image, model).image
        assert (result.mode, result.size, result.info["icc_profile"]) == (mode, (20, 16), b"profile")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "jxl", "heic"])
def test_an_image_becomes_upright_as_on_the_command_line(model: LoadedModel, tmp_path: Path, suffix: str) -> None:
    path, exif = tmp_path / f"in.{suffix}", Image.Exif()
    exif[0x0112] = 6
    for format in formats.PLUG_IN_FORMATS:
        formats.load_plug_in(format)
    Image.fromarray(levels(16, 32)).save(path, exif=exif.tobytes())
    expected = pcsr_cli.upscale(to_8_bits(read_image(path).rgb), model).image
    with Image.open(path) as image:
        for _ in range(2):  # the input does not change
            result = pcsr_cli.upscale(image, model).image
            assert np.array_equal(np.asarray(result), expected)
            assert 0x0112 not in result.getexif()
    if suffix == "jpg":
        assert expected.shape == (128, 64, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1)])
@pytest.mark.parametrize("scale", [1, 1.5, 4])
def test_the_smallest_images_are_enlarged(any_scale: LoadedModel, size: tuple[int, int], scale: float) -> None:
    expected = (round(size[0] * scale), round(size[1] * scale), 3)
    assert pcsr_cli.upscale(levels(*size), any_scale, scale).image.shape == expected
    assert pcsr_cli.upscale(as_tensor(levels(*size)), any_scale, scale).image.shape[2:] == expected[:2]


@pytest.mark.parametrize("scale", [1, 2, 2.5])
def test_a_smaller_scale_is_reduced_from_the_trained_one(model: LoadedModel, scale: float) -> None:
    flat = np.full((6, 8, 3), 77, np.uint8)
    result = pcsr_cli.upscale(flat, model, scale, refine=1)
    assert (result.image.shape, result.working_scale) == ((round(6 * scale), 8 * scale, 3), 4)
    assert result.branches.shape == (24, 32)
    # The network may draw a pattern on flat ground; reducing keeps its mean.
    at_four = pcsr_cli.upscale(flat, model, refine=1).image
    assert np.allclose(result.image.mean(axis=(0, 1)), at_four.mean(axis=(0, 1)), atol=1.5)


@pytest.mark.parametrize("scale", [0, -4, 0.99, 0.99999999, float("nan"), 10_000.1, 1e300, float("inf")])
def test_a_scale_below_one_or_above_ten_thousand_is_refused(model: LoadedModel, scale: float) -> None:
    large = "is too large. Use at most 10,000."
    with fails(ScaleError, f"A scale of {in_full(scale)} {large if scale > 1 else 'does not enlarge.'}"):
        pcsr_cli.upscale(levels(), model, scale)


@pytest.mark.parametrize("scale", [4.3, 8, 10.7])
def test_a_scale_above_the_trained_one_is_the_trained_one_enlarged_bicubically(
    model: LoadedModel, scale: float
) -> None:
    image = torch.rand(3, 7, 9, generator=torch.Generator().manual_seed(0))
    four = pcsr_cli.upscale(image, model, 4).image.permute(1, 2, 0).numpy()
    result = pcsr_cli.upscale(image, model, scale)
    assert (result.scale, result.working_scale) == (scale, 4)
    wanted = resize_bicubic(four, round(7 * scale), round(9 * scale))
    assert np.array_equal(result.image.permute(1, 2, 0).numpy(), wanted)


@pytest.mark.parametrize("options", [{"refine": -1}, {"refine": 10}, {"tile": 0}, {"tile": -5}])
def test_options_out_of_range_are_refused(model: LoadedModel, options: dict[str, int]) -> None:
    with fails(UsageError, f"refine={options.get('refine', 1)}, tile={options.get('tile')} is out of range."):
        pcsr_cli.upscale(levels(), model, **options)  # type: ignore[arg-type]
    with pytest.raises(PcsrError):
        pcsr_cli.Threshold(1.5)
    with pytest.raises(PcsrError):
        pcsr_cli.Tradeoff(float("nan"))


def test_routing_refinement_and_tiles_are_options(model: LoadedModel) -> None:
    pixels = levels(12, 12)
    assert (pcsr_cli.upscale(pixels, model, routing=pcsr_cli.Threshold(0)).branches == 1).all()
    assert (pcsr_cli.upscale(pixels, model, routing=pcsr_cli.Threshold(1)).branches == 0).all()
    adaptive = pcsr_cli.upscale(pixels, model, routing=pcsr_cli.Adaptive())
    assert 0 < adaptive.outcome.heavy_share < 1
    plain, rough = pcsr_cli.upscale(pixels, model), pcsr_cli.upscale(pixels, model, refine=9)
    assert not np.array_equal(plain.image, rough.image)
    tiled = pcsr_cli.upscale(pixels, model, tile=5)
    assert len(tiled.outcome.plan.tiles) == 9
    assert np.array_equal(plain.image, tiled.image)


def test_progress_rises_to_one(model: LoadedModel) -> None:
    shares: list[float] = []
    pcsr_cli.upscale(levels(12, 12), model, tile=6, progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_the_example_in_the_documentation_runs(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pcsr_cli.__doc__ is not None
    example = [line[4:] for line in pcsr_cli.__doc__.splitlines() if line.startswith("    ")]
    assert example[0] == "import pcsr_cli"
    monkeypatch.chdir(tmp_path)
    Image.fromarray(levels()).save("in.png")
    code = "\n".join(["import PIL.Image", *example]).replace('"carn"', repr(str(tiny_folder)))
    exec(compile(code, "example", "exec"), {})
    with Image.open("out.png") as image:
        assert image.size == (32, 24)
