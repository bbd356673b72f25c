"""ClassSR, ARM and the original networks: routing by patch, counts, and the published results."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import asdict
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from pcsr_cli.engine.device import as_lr, full_float32, to_numbers
from pcsr_cli.errors import InputError, ModelError, PcsrError, UsageError
from pcsr_cli.evaluate import peers
from pcsr_cli.evaluate.arguments import parse_peers
from pcsr_cli.evaluate.dataset import find_pairs, load_pair
from pcsr_cli.evaluate.metrics import luma, psnr
from pcsr_cli.evaluate.peers import (
    ClassSrNetwork,
    EdgeTable,
    LoadedOriginal,
    Peer,
    ShiftedCarn,
    cut_patches,
    edge_scores,
    join_patches,
    load_arm,
    load_classsr,
    load_original,
    load_peers,
)
from pcsr_cli.images.read import read_rgb
from pcsr_cli.model.backbones import ORIGINALS
from pcsr_cli.model.backbones.fsrcnn import FsrcnnOriginal
from tests.conftest import SHARED
from tests.failing import fails
from tests.images import levels, save

CPU = torch.device("cpu")
COST = (0, 380_215_296, 771_563_520, 1_154_875_392)
TABLE = EdgeTable((10, 50, 90), ((40, 20, 20), (39, 30, 22), (39, 31, 30), (39, 31, 31)), COST)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights of ClassSR and ARM, and a table."""
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(ClassSrNetwork().state_dict(), folder / "classsr.safetensors")
        torch.save(ShiftedCarn(64, norm=False).state_dict(), folder / "arm.pth")
        save_file(ORIGINALS["fsrcnn"]().state_dict(), folder / "fsrcnn.safetensors")
    (folder / "table.json").write_text(json.dumps(asdict(TABLE)))
    return folder


@pytest.fixture(scope="module")
def arm(weights: Path) -> Peer:
    return load_arm(weights / "arm.pth", CPU)


@pytest.mark.parametrize(("height", "width", "count"), [(32, 32, 1), (59, 60, 2), (61, 88, 6)])
def test_patches_are_joined_where_they_were_cut(height: int, width: int, count: int) -> None:
    hr = levels(4 * height, 4 * width)
    patches = cut_patches(hr, 4)
    assert len(patches) == len(cut_patches(levels(height, width))) == count
    joined = join_patches(patches, (height, width))
    assert np.array_equal(joined, hr[: joined.shape[0], : joined.shape[1]])
    assert joined.shape[0] == 4 * ((height - 32) // 28 * 28 + 32)


def test_overlapping_patches_are_averaged_and_rounded_half_to_even() -> None:
    patches = torch.stack([torch.full((3, 128, 128), value, dtype=torch.uint8) for value in (10, 11, 12, 14)])
    joined = join_patches(patches, (60, 60))[..., 0]
    assert [joined[0, 0], joined[0, 120], joined[120, 0], joined[120, 120]] == [10, 10, 11, 12]
    assert joined[120, 239] == 12  # 12.5


def test_a_slice_is_a_network_of_its_own(arm: Peer) -> None:
    widest = arm.networks[3]
    assert widest is not None
    for width, network in zip(peers.WIDTHS, arm.networks[1:], strict=True):
        assert network is not None
        state, whole = network.state_dict(), widest.state_dict()
        assert torch.equal(state["b2.c3.0.weight"], whole["b2.c3.0.weight"][:width, : 4 * width])
        assert torch.equal(state["b1.b1.body.2.weight"], whole["b1.b1.body.2.weight"][:width, : width // 4])


def test_the_edge_score_counts_diagonal_neighbours() -> None:
    patch = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    patch[..., 5, 5] = 20
    assert edge_scores(patch)[0] == (8 * 20 + 4 * 2 * 20) / 1024
    patch[..., 5, 5] = 0
    patch[..., 1, 1] = 10  # mirrored without the edge pixel: the corner counts it four times, (0, 2) and (2, 0) twice
    assert edge_scores(patch)[0] == (8 * 10 + 2 * (4 + 2 + 2 + 1) * 10) / 1024


def test_a_larger_k_is_better_and_more_expensive(arm: Peer) -> None:
    assert [TABLE.decide(k).tolist() for k in (0, 0.08, 1, 1000)] == [[0, 0, 0], [0, 1, 2], [0, 2, 3], [0, 2, 3]]
    assert TABLE.bins(np.array([-5, 30.0, 30.1, 999])).tolist() == [0, 0, 1, 2]
    image = np.concatenate((levels(32, 32) // 64, levels(32, 60)), axis=1)
    cheap, best = arm.upscale(image, 0), arm.upscale(image, 1000)
    assert cheap.classes[0] == sum(cheap.classes) == sum(best.classes) > best.classes[0]
    assert arm.cost(best.classes).paper > arm.cost(cheap.classes).paper == 0


def test_classes_cost_what_their_networks_execute(weights: Path, arm: Peer) -> None:
    classsr = load_classsr(weights / "classsr.safetensors", CPU)
    per_pixel = [(cost.paper - 7_602_368) / 1024 for cost in classsr.costs]
    assert per_pixel == [372_474, 755_034, 1_129_650]
    assert [cost.paper / 1024 for cost in arm.costs] == [0, 371_610, 753_786, 1_128_114]
    assert arm.costs[0].executed == 96 * 16 * 1024 + 16 * 1024
    patches = cut_patches(levels(32, 88))
    with FlopCounterMode(display=False) as counter:
        result = classsr.upscale(levels(32, 88))
    assert counter.get_total_flops() == classsr.cost(result.classes).executed
    for number in (1, 3):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            peers.enlarge(arm.networks[number], patches)
        assert counter.get_total_flops() == 3 * (arm.costs[number].executed - 16 * 1024)


def test_patches_do_not_see_each_other(weights: Path) -> None:
    classsr = load_classsr(weights / "classsr.safetensors", CPU)
    one, other = levels(32, 60, seed=1), levels(32, 60, seed=1)
    other[:, 32:] = 255 - other[:, 32:]
    one, other = classsr.upscale(one).rgb, classsr.upscale(other).rgb
    assert np.array_equal(one[:, : 4 * 28], other[:, : 4 * 28])
    assert not np.array_equal(one[:, 4 * 28 :], other[:, 4 * 28 :])


def test_a_table_is_computed_from_a_folder(weights: Path, tmp_path: Path) -> None:
    for number in range(2):
        save(tmp_path / f"{number}.png", levels(128, 240, seed=number) // (1 + 7 * number))
    arm = load_arm(weights / "arm.pth", CPU, tmp_path)
    assert arm.own == pytest.approx([flops / 1e9 for flops in COST], rel=1e-9)
    result = arm.upscale(levels(32, 60), 1000)
    assert sum(result.classes) == 2


@pytest.mark.parametrize(
    ("kind", "message", "texts"),
    [
        (UsageError, "Invalid peer 'edsr=a.pth'.", ["edsr=a.pth"]),
        (UsageError, "Invalid peer 'arm'.", ["arm"]),
        (UsageError, "Invalid peer 'classsr=a.pth,k=1'.", ["classsr=a.pth,k=1"]),
        (UsageError, "Invalid peer 'arm=a.pth,k=1,k=2'.", ["arm=a.pth,k=1,k=2"]),
        (UsageError, "Two peers have the name arm.", ["arm=a.pth,k=1", "arm=a.pth,k=2"]),
        (UsageError, "ARM's k of -1 is out of range.", ["arm=a.pth,k=-1"]),
        (UsageError, "ARM's k of 1001 is out of range.", ["arm=a.pth,k=1001"]),
        (UsageError, "Invalid method 'arm=much'.", ["arm=a.pth,k=much"]),
        (ModelError, "does not exist.", ["classsr=nowhere.pth"]),
        (ModelError, "does not fit ClassSR-CARN: missing: classifier.CondNet.0.bias", ["classsr={}/arm.pth"]),
        (ModelError, "does not fit ARM-CARN: missing: add_mean.bias", ["arm={}/classsr.safetensors"]),
        (ModelError, "contains none of the original networks.", ["bsrn={}/arm.pth"]),
        (UsageError, "contains the weights of fsrcnn, not of carn.", ["carn={}/fsrcnn.safetensors"]),
        (ModelError, "Cannot read ARM's table", ["arm={}/arm.pth,table=nowhere.json"]),
        (ModelError, "is invalid", ["arm={}/arm.pth,table={}/other/table.json"]),
        (ModelError, "Cannot find ARM's table: there are 0 JSON files beside", ["arm={}/copy/arm.pth"]),
    ],
)
def test_an_invalid_peer_is_refused(weights: Path, kind: type[PcsrError], message: str, texts: list[str]) -> None:
    for folder in ("copy", "other"):
        (weights / folder).mkdir(exist_ok=True)
    (weights / "copy" / "arm.pth").write_bytes((weights / "arm.pth").read_bytes())
    (weights / "other" / "table.json").write_text(json.dumps({**asdict(TABLE), "cost": COST[1:]}))
    with fails(kind, message):
        load_peers(parse_peers([text.replace("{}", str(weights)) for text in texts]), CPU)


def test_an_image_smaller_than_a_patch_is_refused(arm: Peer) -> None:
    with fails(InputError, "An image of 40x31 pixels is smaller than a patch of 32x32."):
        arm.upscale(levels(31, 40), 1)


@cache
def published(name: str) -> Peer:
    folder = SHARED / "peers"
    return (
        load_classsr(folder / "ClassSR_CARN.pth", CPU) if name == "classsr" else load_arm(folder / "arm-carn.pth", CPU)
    )


def published_cases() -> Iterator[Any]:
    for image in ("face", "comic", "ppt3", "demo"):
        for method in ("classsr", "0.5", "1.3", "1.38", "1.94", "4"):
            slow = [] if image == "face" or (image, method) == ("ppt3", "1.3") else [pytest.mark.slow]
            yield pytest.param(image, method, marks=[pytest.mark.shared, *slow])


@pytest.mark.parametrize(("image", "method"), list(published_cases()))
def test_the_published_results_are_repeated(shared: Path, image: str, method: str) -> None:
    golden = json.loads((shared / "golden/peers/expected.json").read_text())
    cases = golden["classsr"] if method == "classsr" else golden["arm"]["cases"][f"eta{method}"]["pictures"]
    expected, folder = cases[f"{image}.png"], shared / "images"
    lr_path = folder / ("demo_lr_x4.png" if image == "demo" else f"set14/LR_x4/{image}.png")
    truth = read_rgb(folder / ("demo_hr.png" if image == "demo" else f"set14/HR/{image}.png"))
    peer, lr = published("classsr" if method == "classsr" else "arm"), read_rgb(lr_path)
    k = 0.0 if method == "classsr" else float(method)
    result = peer.upscale(lr, k)
    assert peer.route(cut_patches(lr), k).tolist() == expected["classes"]
    assert list(result.classes) == expected["counts"]
    hr = truth[: result.rgb.shape[0], : result.rgb.shape[1]]
    assert psnr(result.rgb, hr, 4) == pytest.approx(expected["psnr_8bit"], abs=5e-5)
    assert peer.cost(result.classes).paper / 1e9 == pytest.approx(expected["paper_gflops"], rel=1e-6)
    own = expected.get("own_gflops_per_patch", expected.get("own_mflops_per_patch", 0) / 1e3)
    assert peer.own_gflops(result.classes) == pytest.approx(own, rel=1e-5)
    stored = f"classsr_{image}" if method == "classsr" else f"arm_eta{method}_{image}"
    path = shared / "golden/peers" / f"{stored}.png"
    if path.exists():
        levels_off = np.abs(result.rgb.astype(int) - read_rgb(path))
        assert levels_off.max() <= 1 and (levels_off != 0).mean() <= 1 / 20_000
    if method != "classsr":
        scores = edge_scores(cut_patches(lr))
        assert np.array_equal(scores, golden["arm"]["edge_scores"][f"{image}.png"])
        table = peers.read_table(None, shared / "peers" / "arm-carn.pth")
        assert table.decide(k).tolist() == golden["arm"]["decision_of_each_bin"][method]


def test_other_files_are_not_original_networks(tmp_path: Path) -> None:
    path = tmp_path / "original.pth"
    with fails(ModelError, f"{path} does not exist."):
        load_original(path, CPU)
    for content, message in (
        ({"weight": torch.zeros(1)}, "none of the original networks."),
        ([1, 2], "no state dict."),
    ):
        torch.save(content, path)
        with fails(ModelError, f"{path} contains {message}"):
            load_original(path, CPU)
    for damaged in (b"", b"\x80\x02."):
        path.write_bytes(damaged)
        with fails(ModelError, f"{path} is not a readable PyTorch checkpoint."):
            load_original(path, CPU)


def test_original_networks_compute_in_full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "full_float32", lambda _: full_float32(torch.device("cuda")))
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
    original = load_original(shared / "peers" / "net_g_BSRN_x4.pth", CPU)
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
    original = load_original(shared / "peers" / "net_g_BSRN_x4.pth", CPU)
    pairs = [load_pair(files, 4) for files in find_pairs([shared / "images" / name], 4)]
    values = [psnr(luma(original.upscale(pair.lr)), luma(pair.hr), 4) for pair in pairs if pair.hr is not None]
    assert np.mean(values) == pytest.approx(published, abs=5e-4)
