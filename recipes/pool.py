"""Choose the training patches of `builtin` and `builtin-jpeg`: squares that a model enlarges neither well nor worst.

    python pool.py PHOTOS OUT MODEL

PHOTOS holds the folders of SOURCES. Every picture is reduced and cut into squares of 256 pixels. MODEL enlarges each
square from a quarter of its size. The 5% with the largest mean squared error are dropped (most are noise), and a random
88% of the half with the smallest error. OUT gets the rest as JPEG XL, in one folder for each source. The folder held
gets the middle of the pictures that are held out.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_jxl  # noqa: F401  (registers the format)
from PIL import Image

import pcsr_cli
from pcsr_cli.images.resize import make_lr
from pcsr_cli.training.patches import Pixels, reduce

SIDE = 256
HARDEST, EASY, EASY_KEPT = 0.05, 0.5, 0.12
SOURCES = {
    "varied": (1,),
    "varied_by_filename": (1,),
    "cc0": (2,),
    "unsplash_4k": (2,),
    "unsplash_2k": (1, 1.6),
    "pages": (1,),
}
SCREENSHOTS = (  # and game frames and portraits, all in unsplash_2k
    "097cb426 100a02c2 100f1789 11f2b039 14ab4af2 28d24b9c 2a2420f9 2c1f8454 3140d643 4cd6910a 8bb119b8 9466a908 "
    "b51d5fb5 d79d465a ef576c4e "
)
HELD_OUT = (  # twenty pictures of varied, for validation
    "azure-fa4aae- elementary-322b91- elementary-4f8d75- elementary-affaa6- elementary-e79d33- immich-22e2e5- "
    "lomiri-afe876- lomiri-c44d97- mue-d5306c- riot-59ee5b- riot-a9d71c- signage-9028f3- skimage-5c2e7a- "
    "talks-72948f- wct-2105b5- wct-5d53eb- wct-e3c3b1- worksuite-10e175- worksuite-743295- worksuite-8dca8f- "
)


def squares(image: Pixels) -> Iterator[Pixels]:
    """Yield squares that cover an image evenly and hardly overlap."""
    rows, columns = (_starts(side) for side in image.shape[:2])
    for top in rows:
        for left in columns:
            yield image[top : top + SIDE, left : left + SIDE]


def _starts(length: int) -> list[int]:
    if length < SIDE:
        return []
    count = max(1, length // SIDE) if length % SIDE < SIDE // 2 or length < 1.3 * SIDE else length // SIDE + 1
    return [round(i * (length - SIDE) / (count - 1)) for i in range(count)] if count > 1 else [(length - SIDE) // 2]


def error(model: pcsr_cli.LoadedModel, square: Pixels) -> float:
    """The mean squared error of enlarging a square from a quarter of its size, without its border."""
    result = pcsr_cli.upscale(make_lr(square, 4), model, 4, routing=pcsr_cli.Threshold(0)).image
    inner = slice(16, -16)
    return float(np.square(result[inner, inner].astype(np.float32) - square[inner, inner]).mean())


def main(photos: Path, out: Path, reference: str) -> None:
    """Choose and write the patches."""
    model = pcsr_cli.load_model(reference)
    found: list[tuple[str, Pixels]] = []
    for source, reductions in SOURCES.items():
        for path in sorted((photos / source).iterdir()):
            if path.suffix not in {".webp", ".jpg", ".jpeg", ".png"} or path.name.startswith(
                tuple(SCREENSHOTS.split())
            ):
                continue
            image = np.asarray(Image.open(path).convert("RGB"))
            if path.name.startswith(tuple(HELD_OUT.split())):
                if path.stem.endswith("-1"):
                    (out / "held").mkdir(parents=True, exist_ok=True)
                    Image.fromarray(image[96:416, 96:416]).save(out / "held" / f"{path.stem}.png")
                continue
            found += [(source, square) for factor in reductions for square in squares(reduce(image, factor))]
    order = np.argsort([error(model, square) for _, square in found])
    half = round(EASY * len(order))
    random = np.random.default_rng(2026)
    easy = random.choice(order[:half], round(EASY_KEPT * half), replace=False)
    for index in sorted([*order[half : round((1 - HARDEST) * len(order))], *easy]):
        source, square = found[index]
        (out / source).mkdir(parents=True, exist_ok=True)
        Image.fromarray(square).save(out / source / f"{index:05}.jxl", quality=92, effort=4)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
