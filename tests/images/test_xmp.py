"""XMP describes the result: sizes are scaled, and what the result does not have is removed."""

import io
import time

import pytest
from PIL import Image

from pcsr_cli.images import xmp
from pcsr_cli.images.metadata import resize_metadata
from pcsr_cli.images.read import read_image
from pcsr_cli.images.xmp import GAIN_MAP, NAMESPACES, REGIONS, VIDEO, resized, true_of_result
from tests.images import levels


def packet(content: str, prefix: str = "", usual: str = "") -> bytes:
    """XMP with properties as elements and attributes. ``prefix`` stands for the namespace with the ``usual`` prefix."""
    declared = f'xmlns:{prefix}="{NAMESPACES[usual].decode()}"' if prefix else ""
    return f"<x:xmpmeta><rdf:Description {declared} {content}</rdf:Description></x:xmpmeta>".encode()


@pytest.mark.parametrize(
    ("content", "prefix", "usual", "loss"),
    [
        ("GCamera:MotionPhoto='1' GCamera:MotionPhotoVersion = '1'>", "GCamera", "GCamera", VIDEO),
        ("><gc:MicroVideo>1</gc:MicroVideo><gc:MicroVideoOffset>20</gc:MicroVideoOffset>", "gc", "GCamera", VIDEO),
        (
            "><C:Directory><rdf:Seq><rdf:li><C:Item i:Semantic='x'/></rdf:li></rdf:Seq></C:Directory>",
            "C",
            "Container",
            "",
        ),
        ('g:Version="1.0">', "g", "hdrgm", GAIN_MAP),
        ("><hdrgm:GainMapMax><rdf:Seq><rdf:li>1.2</rdf:li></rdf:Seq></hdrgm:GainMapMax>", "", "", GAIN_MAP),
        ("><HDRGainMap:HDRGainMapVersion>65536</HDRGainMap:HDRGainMapVersion>", "", "", GAIN_MAP),
        ("><xmp:Thumbnails><rdf:Alt>base64</rdf:Alt></xmp:Thumbnails>", "", "", ""),
        ("><exif:SubjectArea><rdf:Seq><rdf:li>7</rdf:li></rdf:Seq></exif:SubjectArea>", "", "", ""),
    ],
)
def test_what_the_result_lacks_is_removed(content: str, prefix: str, usual: str, loss: str) -> None:
    kept = '<dc:title hdrgm="no">Title</dc:title>'
    changed, lost = true_of_result(packet(content + kept, prefix, usual), turned=False)
    bare = packet(">" + kept, prefix, usual)
    assert changed.replace(b" ", b"") == bare.replace(b" ", b"")
    assert lost == ((loss,) if loss else ())
    assert true_of_result(changed, turned=False) == (changed, ())


def test_a_flag_that_is_off_is_no_loss() -> None:
    assert true_of_result(packet('GCamera:MotionPhoto="0">'), turned=False)[1] == ()


def test_regions_are_scaled_unless_the_image_is_turned() -> None:
    regions = "><r:Regions><r:AppliedToDimensions stDim:w='6' stDim:h='4' stDim:unit='pixel'/>half</r:Regions>"
    page = "<xmpTPg:MaxPageSize stDim:w='6' stDim:h='4'/>"
    content = packet(page + regions, "r", "mwg-rs")
    same, lost = true_of_result(content, turned=False)
    assert (same, lost) == (content, ())
    scaled = regions.replace("'6'", "'60'").replace("'4'", "'40'")
    assert resized(same, 40, 60) == packet(page + scaled, "r", "mwg-rs")
    assert true_of_result(content, turned=True) == (packet(page + ">", "r", "mwg-rs"), (REGIONS,))


def test_panoramas_are_scaled() -> None:
    panorama = (
        "p:FullPanoWidthPixels='12'><p:FullPanoHeightPixels>8</p:FullPanoHeightPixels>"
        "<p:CroppedAreaImageWidthPixels>6</p:CroppedAreaImageWidthPixels>"
        "<p:CroppedAreaImageHeightPixels>4</p:CroppedAreaImageHeightPixels>"
        "<p:CroppedAreaLeftPixels>3</p:CroppedAreaLeftPixels><p:PoseHeadingDegrees>3</p:PoseHeadingDegrees>"
    )
    large = resized(packet(panorama, "p", "GPano"), 16, 24).decode()
    assert "p:FullPanoWidthPixels='48'><p:FullPanoHeightPixels>32<" in large
    assert "ImageWidthPixels>24<" in large and "ImageHeightPixels>16<" in large
    assert "LeftPixels>12<" in large and "Degrees>3<" in large


def test_an_image_with_a_gain_map_costs_one_note() -> None:
    file = io.BytesIO()
    content = packet('hdrgm:Version="1.0" tiff:ImageWidth="6" tiff:Orientation="1">')
    Image.fromarray(levels(4, 6)).save(file, "JPEG", xmp=content)
    image = read_image(file)
    assert image.notes == ("the result lacks the HDR gain map",)
    assert resize_metadata(image.metadata, 40, 60).xmp == content.replace(b' hdrgm:Version="1.0"', b"").replace(
        b"6", b"60"
    )


@pytest.mark.parametrize(
    "content", [b"<hdrgm:V>", b"<hdrgm:V ", b" hdrgm:V=", b"< ", b"xmlns:a = ", b"tiff:Orientation="]
)
def test_any_xmp_takes_linear_time(content: bytes) -> None:
    began = time.process_time()
    true_of_result(content * 30_000, turned=True)
    resized(content * 30_000, 4, 6)
    assert time.process_time() - began < 2
    assert xmp.orientation(content) == 1
