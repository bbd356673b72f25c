"""Draw pages of text and shapes as training images, because photographs contain little of either.

    python pages.py FOLDER [COUNT]

Each page is drawn at twice its size and shrunk, so its edges are antialiased. The script needs Pillow and the DejaVu
fonts (a free licence). It draws the same pages every time.
"""

import argparse
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIDE = 960
OVERSAMPLING = 2
FONTS = Path("/usr/share/fonts/truetype/dejavu")
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def colour(source: random.Random, light: bool) -> tuple[int, int, int]:
    low, high = (150, 255) if light else (0, 110)
    if source.random() < 0.45:
        value = 255 if light else source.randint(0, 40)
        return value, value, value
    return source.randint(low, high), source.randint(low, high), source.randint(low, high)


def words(source: random.Random, count: int) -> str:
    def word() -> str:
        made = "".join(source.choices(LETTERS, weights=range(26, 0, -1), k=source.randint(2, 9)))
        style = source.random()
        if style < 0.15:
            return made.capitalize()
        if style < 0.2:
            return made.upper()
        return str(source.randint(0, 9999)) if style < 0.26 else made

    return " ".join(word() for _ in range(count))


def write(draw: ImageDraw.ImageDraw, source: random.Random, box: tuple[int, int, int, int], dark: bool) -> None:
    """Fill a box with lines of text in one font and size."""
    left, top, right, bottom = box
    font = ImageFont.truetype(
        source.choice(sorted(FONTS.glob("DejaVuS*.ttf"))), source.choice((28, 36, 44, 52, 64, 80, 110, 150))
    )
    ink = colour(source, light=dark)
    step = int(font.size * source.uniform(1.1, 1.6))
    for y in range(top, bottom - step, step):
        line = words(source, max(1, int((right - left) / font.size / 3)))
        draw.text((left, y), line, fill=ink, font=font)


def draw_shapes(draw: ImageDraw.ImageDraw, source: random.Random, box: tuple[int, int, int, int], dark: bool) -> None:
    """Draw strokes, outlines and flat areas with dark edges, as in a comic or a diagram."""
    left, top, right, bottom = box
    for _ in range(source.randint(10, 60)):
        points = [(source.randint(left, right), source.randint(top, bottom)) for _ in range(source.randint(2, 5))]
        span = source.randint(20, 240)
        points = [
            (points[0][0] + source.randint(-span, span), points[0][1] + source.randint(-span, span)) for _ in points
        ]
        ink, width = colour(source, light=dark), source.randint(2, 12)
        kind = source.random()
        if kind < 0.3:
            draw.line(points, fill=ink, width=width, joint="curve")
        elif kind < 0.6 and len(points) > 2:
            draw.polygon(points, fill=colour(source, light=source.random() < 0.6), outline=ink, width=width)
        elif kind < 0.8:
            x, y = points[0]
            draw.ellipse(
                (x, y, x + span, y + source.randint(20, 240)), outline=ink, width=width, fill=colour(source, True)
            )
        else:
            x, y = points[0]
            gap = source.randint(5, 24)
            slant = source.randint(-60, 60)
            for line in range(source.randint(4, 20)):
                draw.line((x + line * gap, y, x + line * gap + slant, y + span), fill=ink, width=max(2, gap // 3))


def page(seed: int) -> Image.Image:
    source = random.Random(seed)
    dark = source.random() < 0.25
    side = SIDE * OVERSAMPLING
    image = Image.new("RGB", (side, side), colour(source, light=not dark))
    draw = ImageDraw.Draw(image)
    rows = source.randint(1, 4)
    for row in range(rows):
        columns = source.randint(1, 2)
        for column in range(columns):
            box = (
                side * column // columns + 30,
                side * row // rows + 20,
                side * (column + 1) // columns - 30,
                side * (row + 1) // rows,
            )
            if source.random() < 0.3:
                draw.rectangle(box, fill=colour(source, light=not dark))
            (write if source.random() < 0.6 else draw_shapes)(draw, source, box, dark)
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=16)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.count):
        page(seed).save(arguments.folder / f"page-{seed:02d}.png")


if __name__ == "__main__":
    main()
