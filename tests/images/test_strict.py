"""A damaged file that is read without a note about damage satisfies the programs of libpng, libjpeg and libtiff."""

import io
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from pcsr_cli.errors import PcsrError
from pcsr_cli.images.png import SIGNATURE
from pcsr_cli.images.read import read_image
from tests.images import chunk, levels
from tests.images.mutations import mutated, seeds

PROGRAMS = {
    ".png": ("pngtopam",),
    ".jpg": ("djpeg", "-outfile", "/dev/null"),
    ".tif": ("tiffcp", "-c", "none"),
}
"""Programs that decode all pixels and report every complaint of their library."""


def with_right_checksums(content: bytes) -> bytes:
    """A PNG with the checksums of its damaged chunks."""
    out, at = SIGNATURE, len(SIGNATURE)
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4])
        out += chunk(content[at + 4 : at + 8], content[at + 8 : at + 8 + length])
        at += 12 + length
    return out


def more_seeds(suffix: str) -> Iterator[bytes]:
    """Files with more pixels than those of ``seeds``, so that more of the damage is in the pixels."""
    kinds: dict[str, list[dict[str, object]]] = {
        ".png": [{}],
        ".jpg": [{}, {"progressive": True}, {"restart_marker_blocks": 4}, {"subsampling": 0}],
        ".tif": [{"compression": name} for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma")],
    }
    image = Image.fromarray(levels(6, 8)).resize((80, 60), Image.Resampling.BICUBIC)
    for options in kinds[suffix]:
        file = io.BytesIO()
        image.save(file, {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, "PNG"), **options)
        yield file.getvalue()


def complains(path: Path) -> bool:
    """Whether the strict program reports an error. It may report that a JPEG lacks its end marker."""
    output = [path.with_name("out.tif")] if path.suffix == ".tif" else []
    ran = subprocess.run([*PROGRAMS[path.suffix], path, *output], capture_output=True, timeout=30)
    if path.suffix == ".jpg" and b"Premature end of JPEG file" in ran.stderr:
        path.write_bytes(path.read_bytes() + b"\xff\xd9")
        return complains(path)
    return ran.returncode != 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", PROGRAMS)
def test_what_a_strict_decoder_reports_is_reported(tmp_path: Path, suffix: str) -> None:
    if shutil.which(PROGRAMS[suffix][0]) is None:
        pytest.skip(f"{PROGRAMS[suffix][0]} is not installed")
    sound = [content for name, content in seeds().items() if name.endswith(suffix)] + [*more_seeds(suffix)]
    path, read = tmp_path / f"in{suffix}", 0
    for number in range(400):
        chance = random.Random(number)
        content = mutated(sound[number % len(sound)], chance)
        path.write_bytes(with_right_checksums(content) if suffix == ".png" and chance.random() < 0.7 else content)
        try:
            image = read_image(path)
        except PcsrError:
            continue
        read += 1
        assert any("damaged" in note for note in image.notes) or not complains(path), number
    assert read >= 5
