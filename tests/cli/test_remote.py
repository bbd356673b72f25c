"""``pcsr upscale`` and ``pcsr status`` with the addresses of objects."""

from pathlib import Path

import pytest

from tests.command import UNREACHABLE, Pcsr
from tests.images import levels, save
from tests.s3_server import Bucket


@pytest.fixture
def pcsr(run_pcsr: Pcsr, tiny_folder: Path, bucket: Bucket) -> Pcsr:
    """The command, with the images a.png and b.png in the bucket's folder ``in``."""
    run_pcsr.env |= {**bucket.server.env, "PCSR_MODEL": str(tiny_folder)}
    for name in ("a.png", "b.png"):
        bucket.put(f"in/{name}", save(run_pcsr.cwd / name, levels(5, 6)).read_bytes())
    return run_pcsr


def test_one_image_becomes_one_object(pcsr: Pcsr, bucket: Bucket) -> None:
    report = pcsr("upscale", f"{bucket.url}/in/a.png", f"{bucket.url}/out.png", "--json").succeeded().document
    assert (report["source"], report["output"]) == (f"{bucket.url}/in/a.png", f"{bucket.url}/out.png")
    pcsr("upscale", "a.png", "local.png").succeeded()
    assert bucket.read("out.png") == (pcsr.cwd / "local.png").read_bytes()
    pcsr("upscale", "a.png", f"{bucket.url}/out.png").failed(2, f"{bucket.url}/out.png already exists.")
    pcsr("upscale", f"{bucket.url}/in/a.png").succeeded()
    assert bucket.keys("in/") == ["a.png", "a_x4.png", "b.png"]
    assert bucket.server.count("GET", "in/a.png") == 2, "an image is read once"


def test_a_folder_of_objects_and_its_status(pcsr: Pcsr, bucket: Bucket) -> None:
    bucket.put("in/bad.png", b"bad")
    pcsr("upscale", f"{bucket.url}/in", f"{bucket.url}/out", "--quiet")
    assert bucket.keys("out/", ".png") == ["a_x4.png", "b_x4.png"]
    status = pcsr("status", f"{bucket.url}/out", f"{bucket.url}/in", "--json").succeeded().document
    assert (status["done"], status["failed"], status["remaining"]) == (2, 1, 0)
    failed = pcsr("status", f"{bucket.url}/out", "--failed").succeeded().stdout
    assert failed == f"{bucket.url}/in/bad.png\n"
    (pcsr.cwd / "list").write_text(failed)
    bucket.put("in/bad.png", bucket.read("in/a.png"))
    pcsr("upscale", f"{bucket.url}/in", f"{bucket.url}/out", "--from-list", "list", "--quiet").succeeded()
    assert bucket.keys("out/", ".png") == ["a_x4.png", "b_x4.png", "bad_x4.png"]
    pcsr("upscale", f"{bucket.url}/in", f"{bucket.url}/in", "--quiet").failed(2, f"{bucket.url}/in is an input")


@pytest.mark.parametrize(
    ("source", "target", "env", "code", "part"),
    [
        ("s3://no-bucket/in", "out", {}, 1, "s3://no-bucket/in cannot be used: there is no bucket no-bucket."),
        ("{url}/in", "{url}/out", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, 1, "credentials"),
        ("{url}/in", "out", {"AWS_ENDPOINT_URL": UNREACHABLE, "AWS_MAX_ATTEMPTS": "1"}, 1, "Could not connect"),
        ("http://host/a.png", "out", {}, 1, "http://host/a.png is a URL. Download the image first."),
        ("gs://bucket/a.png", "out", {}, 2, "pip install gcsfs"),
        ("a.png", "ftp://host/out.png", {}, 2, "that store may show incomplete results"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_sentence(
    pcsr: Pcsr, bucket: Bucket, source: str, target: str, env: dict[str, str], code: int, part: str
) -> None:
    source, target, part = (text.replace("{url}", bucket.url) for text in (source, target, part))
    before = (bucket.keys(), pcsr.files())
    pcsr("upscale", source, target, env=env).failed(code, part)
    assert (bucket.keys(), pcsr.files()) == before
