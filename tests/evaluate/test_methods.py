"""Methods: parsing, patch routing, and the original networks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pcsr_cli.engine.device import as_lr, full_float32, to_numbers
from pcsr_cli.errors import ModelError, UsageError
from pcsr_cli.evaluate import methods
from pcsr_cli.evaluate.arguments import Method, parse_methods
from pcsr_cli.evaluate.dataset import find_pairs, load_pair
from pcsr_cli.evaluate.methods import LoadedOriginal, load_original, patch_mask
from pcsr_cli.evaluate.metrics import luma, psnr
from pcsr_cli.images.read import read_rgb
from pcsr_cli.model.backbones.fsrcnn import FsrcnnOriginal
from tests.failing import fails


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The list of methods is empty."),
        ("nonsense", "Unknown method"),
        ("budget", "Unknown method"),
        ("threshold=2", "threshold"),
        *((text, "Invalid method") for text in ("k=x", "adm=1", "patch=0", "patch=1.5", "patch=nan", "patch=inf")),
    ],
)
def test_invalid_methods_are_refused(text: str, message: str) -> None:
    with fails(UsageError, message):
        parse_methods(text)


def test_different_methods_have_different_labels() -> None:
    labels = [method.label for method in parse_methods("threshold=0.5,threshold=0.5000001,k=1,k=-1,patch=32")]
    assert labels == ["threshold 0.5", "threshold 0.5000001", "k = 1", "k = -1", "patch 32"]


def test_methods_are_parsed_with_defaults() -> None:
    assert parse_methods("all-heavy, patch,k=-1") == (Method("heavy"), Method("patch", 32), Method("k", -1))


def test_the_hardest_patches_are_heavy_and_the_last_one_in_its_upper_part() -> None:
    difficulty = torch.zeros(4, 6)
    difficulty[:2, 2:4], difficulty[2:, 4:] = 0.9, 0.5
    mask = patch_mask(difficulty, 2, 6)
    assert mask[:2, 2:4].all() and mask[2, 4:].all() and mask.sum() == 6


def test_other_files_are_not_original_networks(tmp_path: Path) -> None:
    path = tmp_path / "original.pth"
    cpu = torch.device("cpu")
    with fails(ModelError, f"{path} does not exist."):
        load_original(path, cpu)
    for content, message in (
        ({"weight": torch.zeros(1)}, "none of the original networks."),
        ([1, 2], "no state dict."),
    ):
        torch.save(content, path)
        with fails(ModelError, f"{path} contains {message}"):
            load_original(path, cpu)
    for damaged in (b"", b"\x80\x02."):
        path.write_bytes(damaged)
        with fails(ModelError, f"{path} is not a readable PyTorch checkpoint."):
            load_original(path, cpu)


def test_original_networks_compute_in_full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "full_float32", lambda _: full_float32(torch.device("cuda")))
    precisions: list[str] = []
    network = FsrcnnOriginal().eval()

    def watch(*_: object) -> None:
        precisions.append(torch.backends.cudnn.conv.fp32_precision)  # type: ignore[attr-defined]

    network.tail_conv.register_forward_hook(watch)
    LoadedOriginal("fsrcnn", network, (0.0, 0.0, 0.0)).upscale(np.zeros((4, 5, 3), np.uint8))
    assert precisions == ["ieee"]


@pytest.mark.shared
@pytest.mark.parametrize("name", ["face", "comic"])
def test_bsrn_gives_its_published_results(shared: Path, name: str) -> None:
    original = load_original(shared / "peers" / "net_g_BSRN_x4.pth", torch.device("cpu"))
    assert (original.name, sum(value.numel() for value in original.network.parameters())) == ("bsrn", 352_400)
    lr = read_rgb(shared / f"images/set14/LR_x4/{name}.png")
    expected = read_rgb(shared / f"golden/peers/bsrn_{name}.png").astype(np.float64)
    x = to_numbers(as_lr(lr))
    with torch.inference_mode():
        values = original.network(x)[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255
    assert np.abs(values - expected).max() <= 0.5 + 1e-4 * 255
    assert (original.upscale(lr) != expected).mean() <= 1 / 20_000


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(("name", "published"), [("set5", 32.350), ("set14", 28.739)])
def test_bsrn_has_its_published_psnr_of_luma(shared: Path, name: str, published: float) -> None:
    original = load_original(shared / "peers" / "net_g_BSRN_x4.pth", torch.device("cpu"))
    pairs = [load_pair(files, 4) for files in find_pairs([shared / "images" / name], 4)]
    values = [psnr(luma(original.upscale(pair.lr)), luma(pair.hr), 4) for pair in pairs if pair.hr is not None]
    assert np.mean(values) == pytest.approx(published, abs=5e-4)
