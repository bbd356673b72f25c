"""Draws the images of the README: ``python -m benchmarks.pictures``."""

import io
import tempfile
from pathlib import Path

from PIL import Image
from skimage import data

import pcsr_cli
from pcsr_cli.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPH = ROOT / "examples" / "chelsea.png"
SCALE = 4
PATCH = (520, 1372, 848, 1700)
"""The box of the patch on the suit in the enlarged photograph of the astronaut: (left, top, right, bottom)."""
GAP = 10
WIDTH = 720


def main() -> None:
    """Draw ``docs/lettering.jpg`` and ``docs/difficulty.jpg``."""
    lettering().save(ROOT / "docs" / "lettering.jpg", quality=90)
    difficulty().save(ROOT / "docs" / "difficulty.jpg", quality=85)


def lettering() -> Image.Image:
    """Draw a detail of the astronaut by bicubic and builtin, and of a JPEG by bicubic and builtin-jpeg."""
    photograph = Image.fromarray(data.astronaut())  # type: ignore[no-untyped-call]
    photograph.save(file := io.BytesIO(), "JPEG", quality=75)
    parts = []
    for image, model in ((photograph, "builtin"), (Image.open(file), "builtin-jpeg")):
        result = pcsr_cli.upscale(image, pcsr_cli.load_model(model), SCALE).image
        parts += [image.resize(result.size, Image.Resampling.BICUBIC).crop(PATCH), result.crop(PATCH)]
    width, height = parts[0].size
    drawn = Image.new("RGB", (len(parts) * (width + GAP) - GAP, height), "white")
    for index, part in enumerate(parts):
        drawn.paste(part, (index * (width + GAP), 0))
    return drawn


def difficulty() -> Image.Image:
    """Draw p_heavy of the whole photograph at x2 with ``upscale --map``, and reduce it."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "map.png"
        upscaled = str(Path(folder) / "x2.png")
        arguments = ["upscale", str(PHOTOGRAPH), upscaled, "--scale", "2", "--model", "builtin", "--quiet"]
        app([*arguments, "--map", str(output), "--map-style", "difficulty"], standalone_mode=False)
        with Image.open(output) as file:
            drawn = file.convert("RGB")
            return drawn.resize((WIDTH, round(drawn.height * WIDTH / drawn.width)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
