"""Damaged images of every format. ``python -m tests.images.mutations 5000`` reads 5000 of them.

Whatever the bytes, reading must return an image or raise an InputError within 30 seconds."""

import faulthandler
import io
import random
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageCms

from pcsr_cli.errors import PcsrError
from pcsr_cli.images.animation import open_animation, open_frame_writer
from pcsr_cli.images.formats import FORMATS, SaveOptions
from pcsr_cli.images.image import ImageData, Metadata
from pcsr_cli.images.read import read_image
from pcsr_cli.images.write import write_image
from tests.images import deep_levels, levels, save_deep

PATIENCE = 30
"""Seconds after which reading counts as hanging."""

INTERESTING = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\1\0")


def seeds() -> dict[str, bytes]:
    """Small undamaged files of every format and many kinds, by name."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        _write_kinds(place)
        return {path.name: path.read_bytes() for path in sorted(place.iterdir())}


def _write_kinds(place: Path) -> None:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 6, "Maker"
    tags[0x8769] = {0xA002: 12, 0xA003: 10}
    tags[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    described = Metadata(icc, tags.tobytes().removeprefix(b"Exif\0\0"), b'<x tiff:Orientation="6"/>', (300, 200))
    rgb, alpha = levels(10, 12), levels(10, 12, 1)[..., 0]
    for format in FORMATS:
        if not format.installed:
            continue
        for grey in (False, True):
            for clear in (None, alpha)[: 1 + format.alpha]:
                name = f"{'grey' if grey else 'rgb'}{'' if clear is None else 'a'}{format.suffixes[0]}"
                write_image(place / name, ImageData(rgb, clear, grey, described), {"key": "value"})
        if format.animated:
            output = place / f"animated{format.suffixes[0]}"
            with open_frame_writer(output, format, (10, 12), 0, described, options=SaveOptions()) as writer:
                for seed in range(3):
                    writer.add(ImageData(levels(10, 12, seed=seed), alpha if seed else None), 50)
    for channels in (1, 2, 3, 4):
        save_deep(place / f"deep{channels}.png", deep_levels(10, 12, channels))
        save_deep(place / f"deep{channels}.tif", deep_levels(10, 12, channels), compression="lzw", tile=True)
    image = Image.fromarray(rgb)
    for suffix in (".png", ".gif", ".tif", ".bmp"):
        image.quantize(16).save(place / f"palette{suffix}")
        image.convert("1").save(place / f"bits{suffix}")
    image.convert("CMYK").save(place / "ink.jpg", icc_profile=icc)
    image.convert("CMYK").save(place / "ink.tif")
    image.save(place / "rgb.jp2")
    image.save(place / "rgb.ppm")
    (place / "deep.pgm").write_bytes(b"P5\n4 3\n65535\n" + np.arange(12, dtype=">u2").tobytes())


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with one to eight changes, deletions, insertions or truncations."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        reach = len(changed) if chance.random() < 0.5 else min(len(changed), 200)  # half of the changes in the header
        at = chance.randrange(reach)
        match chance.choice(("byte", "byte", "bit", "word", "cut", "add", "copy", "end")):
            case "byte":
                changed[at] = chance.randrange(256)
            case "bit":
                changed[at] ^= 1 << chance.randrange(8)
            case "word":
                changed[at : at + 4] = chance.choice(INTERESTING)
            case "cut":
                del changed[at : at + chance.randint(1, 20)]
            case "add":
                changed[at:at] = chance.randbytes(chance.randint(1, 20))
            case "copy":
                changed[at:at] = changed[chance.randrange(len(changed)) :][: chance.randint(1, 60)]
            case "end" if chance.random() < 0.3:
                del changed[at:]
        changed = changed or bytearray(b"\0")
    return bytes(changed)


def damaged(number: int, start: int = 0) -> Iterator[tuple[str, bytes]]:
    """Names and contents of damaged files, the same on each call."""
    sound = list(seeds().items())
    for index in range(start, start + number):
        name, content = sound[index % len(sound)]
        yield f"{index}-{name}", mutated(content, random.Random(index))


def is_read(content: bytes) -> bool:
    """Whether a file is read; False if it is refused with a next step. Raises any other exception. Reads all frames."""
    try:
        image = read_image(io.BytesIO(content))
    except PcsrError as error:
        assert error.next_step or error.sentence == "The image has no pixels.", error
        image = None
    try:
        with open_animation(io.BytesIO(content)) as animation:
            assert all(frame.image.rgb.size for frame in animation.frames)
    except PcsrError:
        pass
    assert image is None or image.rgb.size
    return image is not None


def main(number: int, start: int) -> None:
    """Read damaged files and print how many were accepted. ``damaged.bin`` has the file that crashes or hangs."""
    warnings.simplefilter("ignore")
    found, slowest = 0, (0.0, "")
    for name, content in damaged(number, start):
        Path("damaged.bin").write_bytes(content)
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        began = time.perf_counter()
        try:
            found += is_read(content)
        except MemoryError:
            sys.stdout.write(f"{name}: too little memory\n")
        except BaseException:
            sys.stdout.write(f"{name}:\n")
            raise
        slowest = max(slowest, (time.perf_counter() - began, name))
    Path("damaged.bin").unlink()
    faulthandler.cancel_dump_traceback_later()
    sys.stdout.write(f"{number} files, {found} of them read, the slowest, {slowest[1]}, in {slowest[0]:.1f} s\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
