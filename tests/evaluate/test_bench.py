"""``bench``: rows and means of all methods, the paper's table, and the published figures."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pcsr_cli.api import load_model
from pcsr_cli.engine.device import as_lr
from pcsr_cli.engine.rules import Allowance
from pcsr_cli.engine.upscale import Settings, predict_branches
from pcsr_cli.errors import InputError, UsageError
from pcsr_cli.evaluate import bench as module
from pcsr_cli.evaluate.arguments import Method, parse_methods, parse_peers
from pcsr_cli.evaluate.bench import BenchResult, PaperTable, Row, bench, check, find_matches, paper_table
from pcsr_cli.evaluate.dataset import PairFiles, SkippedImage, find_pairs, load_pair
from pcsr_cli.evaluate.metrics import psnr
from pcsr_cli.evaluate.peers import LoadedOriginal, load_original, load_peers
from pcsr_cli.images.resize import make_lr, make_lr_float, resize_bicubic_8bit
from pcsr_cli.model.backbones import ORIGINALS
from pcsr_cli.model.registry import LoadedModel
from pcsr_cli.model.spec import Scales
from tests.evaluate.test_sweep import CONDITIONS, IDENTITY, MODEL
from tests.failing import fails
from tests.images import levels, save
from tests.tiny import tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        save(tmp_path / f"{number}.png", levels(52, 60 + 8 * number, seed=number))
    return tmp_path


def test_every_method_has_a_row_for_each_image_and_a_mean(folder: Path) -> None:
    methods = parse_methods("threshold=0.4,k=1,adm,heavy,light,patch=4,bicubic,lanczos")
    result = bench(CONDITIONS, find_pairs([folder], 4), methods)
    assert len(result.rows) == 16 and not result.skipped
    rows = {row.method: row for row in result.rows[:8]}
    assert rows["all heavy"].heavy_share == 1 and rows["all light"].heavy_share == 0
    assert rows["patch 4"].heavy_share == rows["threshold 0.4"].heavy_share
    assert rows["patch 4"].paper == pytest.approx(rows["threshold 0.4"].paper)
    assert rows["patch 4"].seconds is None
    truth = levels(52, 60, seed=0)
    bicubic = resize_bicubic_8bit(make_lr(truth, 4), 52, 60)
    assert rows["bicubic"].psnr == pytest.approx(psnr(bicubic, truth, 4))
    assert rows["bicubic"].paper is None
    mean = {row.method: row for row in result.mean}
    for name, row in mean.items():
        both = [each.psnr for each in result.rows if each.method == name]
        assert row.psnr == pytest.approx(np.mean([value for value in both if value is not None]))


def test_a_flat_image_does_not_decide_the_mean(folder: Path) -> None:
    before = bench(CONDITIONS, find_pairs([folder], 4), parse_methods("bicubic,lanczos")).mean
    for name in ("black.png", "white.png"):
        save(folder / name, np.full((52, 60, 3), 255 * (name == "white.png"), np.uint8))
    after = bench(CONDITIONS, find_pairs([folder], 4), parse_methods("bicubic,lanczos")).mean
    assert [(row.psnr, row.equal) for row in after] == [(row.psnr, 2) for row in before]


def test_without_hr_results_are_compared_with_all_heavy(folder: Path) -> None:
    result = bench(CONDITIONS, find_pairs([folder], 4, no_reference=True), parse_methods("heavy,light"))
    assert result.rows[0].psnr == math.inf and result.rows[1].psnr is not None and result.rows[1].psnr < 100


def test_a_damaged_file_is_skipped(folder: Path) -> None:
    (folder / "0.png").write_bytes(b"not an image")
    skipped: list[SkippedImage] = []
    result = bench(CONDITIONS, find_pairs([folder], 4), parse_methods("light"), skip=skipped.append)
    assert [row.image for row in result.rows] == ["1.png"]
    assert "0.png is not an image" in skipped[0].reason and result.skipped == tuple(skipped)
    (folder / "1.png").write_bytes(b"")
    with fails(InputError, "All images failed.") as failed:
        bench(CONDITIONS, find_pairs([folder], 4), parse_methods("light"))
    assert "0.png" in failed.value.next_step


def test_a_budget_is_spent_with_one_cut_for_all_images(tmp_path: Path) -> None:
    images = levels(52, 60, seed=0), levels(52, 68, seed=1) // 4
    for number, rgb in enumerate(images):
        save(tmp_path / f"{number}.png", rgb)
    model = LoadedModel(MODEL.network, replace(IDENTITY, original=None), MODEL.scales)
    conditions, methods = replace(CONDITIONS, model=model), (Method("heavy"), Method("budget"))
    result = bench(conditions, find_pairs([tmp_path], 4), methods, allowance=Allowance(80, "%"))
    heavy, budget = result.mean
    assert heavy.paper is not None and budget.paper == pytest.approx(0.8 * heavy.paper, rel=1e-3)
    difficulties = [
        predict_branches(MODEL.network, as_lr(make_lr(rgb, 4)), 4, Settings(refine=1)).difficulty for rgb in images
    ]
    shares = [row.heavy_share for row in result.rows if row.method == "budget"]
    spent = sum(
        round(share * each.numel()) for share, each in zip(shares, difficulties, strict=True) if share is not None
    )
    cut = torch.cat([each.view(-1) for each in difficulties]).sort(descending=True).values[spent]
    assert shares == [pytest.approx((each > cut).float().mean().item()) for each in difficulties]
    assert shares[0] != pytest.approx(shares[1], abs=0.05)


def test_the_original_network_is_identified_by_its_keys(folder: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ORIGINALS["fsrcnn"]().eval()
    path = tmp_path / "original.safetensors"
    save_file(network.state_dict(), path)
    original = load_original(path, torch.device("cpu"))
    assert original.name == "fsrcnn"
    methods, files = parse_methods("original"), find_pairs([folder / "0.png"], 4)
    row = bench(replace(CONDITIONS, original=original), files, methods).rows[0]
    assert row.psnr is not None and row.paper == pytest.approx(original.cost(13 * 15).paper / 1e9)
    with fails(UsageError, "needs the weights of the original network"):
        bench(CONDITIONS, files, methods)


def test_options_that_the_model_does_not_support_are_refused() -> None:
    three = LoadedModel(tiny_model("carn", 3), IDENTITY, Scales((2.0, 4.0)))
    with fails(UsageError, "These methods need a model with two branches, not 3: threshold 0.5, patch 32."):
        check(replace(CONDITIONS, model=three), parse_methods("heavy,threshold,adm,patch"))
    check(replace(CONDITIONS, model=three), parse_methods("heavy,adm,light,k"))
    with fails(UsageError, "tiny was trained for x4, not x2."):
        check(replace(CONDITIONS, scale=2), parse_methods("adm"))
    original = LoadedOriginal("fsrcnn", ORIGINALS["fsrcnn"](8), (0, 0, 0))
    with fails(UsageError, "The original network supports only x4."):
        check(replace(CONDITIONS, model=three, scale=2, original=original), parse_methods("adm"))


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["set5", "set14"])
def test_threshold_and_adm_reproduce_the_published_figures(shared: Path, name: str) -> None:
    model = load_model(str(shared / "hub" / "3587jjh" / "pcsr_carn"))
    golden = json.loads((shared / "golden" / "set5_set14.json").read_text())[f"{name.capitalize()}_carn"]
    files, methods = find_pairs([shared / "images" / name], 4), parse_methods("threshold,adm,patch")
    result = bench(replace(CONDITIONS, model=model), files, methods, paper=True)
    expected = {(image["image"], label): image[key] for image in golden["images"] for key, label in LABELS.items()}
    rows = [row for row in result.rows if row.method in LABELS.values()]
    assert {(row.image, row.method) for row in rows} == set(expected)
    for row in rows:
        published = expected[row.image, row.method]
        assert row.psnr == pytest.approx(published["psnr"], abs=1e-4)
        assert row.paper == pytest.approx(published["gflops"], rel=2e-5)
    pixel, _, patch = result.mean
    assert pixel.psnr is not None and patch.psnr is not None and pixel.psnr > patch.psnr + 0.1


LABELS = {"k0": "threshold 0.5", "adm": "ADM"}


HEAVY = Method("heavy")


@pytest.fixture
def files(tmp_path: Path) -> tuple[PairFiles, ...]:
    for number in range(2):
        save(tmp_path / f"{number}.png", levels(142, 149 + 8 * number, seed=number))
    return find_pairs([tmp_path], 4)


def test_the_matching_k_gives_the_figures_of_a_method(files: tuple[PairFiles, ...]) -> None:
    target = Method("threshold", 0.41)
    result = paper_table(CONDITIONS, "images", files, [target, HEAVY], [target])
    rows = {row.method: row for row in result.rows}
    (quality,) = (row.psnr for name, row in rows.items() if name.endswith("PSNR of threshold 0.41"))
    (paper,) = (row.paper for name, row in rows.items() if "GFLOPs of threshold 0.41" in name)
    assert quality == pytest.approx(rows["threshold 0.41"].psnr, abs=2e-3)
    assert paper == pytest.approx(rows["threshold 0.41"].paper, rel=2e-3)
    assert (result.folder, result.images, result.notes) == ("images", 2, ())
    assert {row.image for row in result.rows} == {"images"}


def test_figures_out_of_reach_are_named(files: tuple[PairFiles, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    (peer,) = (replace(row, method="peer", paper=999.0) for row in paper_table(CONDITIONS, "", files, [HEAVY]).rows)

    def matches_of(psnr: float) -> tuple[list[str], list[str]]:
        row = replace(peer, psnr=psnr)
        monkeypatch.setattr(module, "bench", lambda *_, **__: BenchResult((row,), (row,), ()))
        matches, notes = find_matches(CONDITIONS, files[:1], [HEAVY])
        return [match.figure for match in matches], notes

    matches, (quality, cost) = matches_of(99.0)
    assert not matches and "The 999.00 GFLOPs of peer are out of reach: PCSR costs from" in cost
    assert quality.startswith("The PSNR of peer, 99.000 dB, is out of reach: PCSR has at most")
    best = float(quality.split()[-2])
    assert matches_of(best + 0.003)[0] == ["PSNR of peer"], "within the margin"
    assert matches_of(best + 0.007)[0] == []


def test_images_are_cut_to_multiples_of_twelve_and_may_be_floating_point(files: tuple[PairFiles, ...]) -> None:
    hr = levels(142, 149, seed=0)[:132, :144]
    eight = load_pair(replace(files[0], multiple=12), 4)
    assert eight.hr is not None and np.array_equal(eight.hr, hr) and np.array_equal(eight.lr, make_lr(hr, 4))
    floating = load_pair(replace(files[0], multiple=12, lr_float=True), 4).lr
    assert floating.dtype == np.float32 and np.array_equal(floating, make_lr_float(hr, 4))
    inside = (slice(2, -2), slice(2, -2))
    assert np.abs(floating[inside] * 255 - eight.lr[inside]).max() < 1.01
    checks = np.indices((48, 48)).sum(axis=0)[..., None].repeat(3, axis=2) % 2 * np.uint8(255)
    checks[12:36, 12:36] = 255
    assert make_lr_float(checks.astype(np.uint8), 4).max() > 1, "bicubic overshoots, and nothing clips it"


def test_borders_of_floating_point_images_are_mirrored() -> None:
    hr = levels(48, 60)
    doubled = np.concatenate((hr[:, ::-1], hr), axis=1)
    assert np.allclose(make_lr_float(doubled, 4)[:, 15:], make_lr_float(hr, 4), atol=1e-6)


SET14 = {
    "ClassSR": (26.477, 13.226),
    "ARM k = 1.3505": (26.477, 14.118),
    "ARM k = 1.3": (26.363, 10.632),
    "BSRN": (26.812, 7.97),
    "all heavy": (26.476, 13.816),
    "threshold 0.5": (26.444, 9.607),
    "k = 1": (26.419, 8.165),
}


@pytest.mark.slow
@pytest.mark.shared
def test_set14_has_the_known_figures(shared: Path) -> None:
    weights = shared / "peers"
    peers = parse_peers(
        [
            f"classsr={weights / 'ClassSR_CARN.pth'}",
            f"arm={weights / 'arm-carn.pth'},k=1.3505",
            f"bsrn={weights / 'net_g_BSRN_x4.pth'}",
        ]
    )
    model = load_model(str(shared / "hub/3587jjh/pcsr_carn"))
    conditions = replace(CONDITIONS, model=model, peers=load_peers(peers, torch.device("cpu")))
    files = find_pairs([shared / "images/set14"], 4)
    methods = [*(each.method for each in peers), *parse_methods("arm=1.3,heavy,threshold,k=1")]
    figures = figures_of(paper_table(conditions, "set14", files, methods))
    for name, (quality, paper) in SET14.items():
        assert figures[name][0] == pytest.approx(quality, abs=2e-3)
        assert figures[name][1] == pytest.approx(paper, abs=0.05)
    assert figures["ClassSR"][2] == (16, 89, 94) and figures["ARM k = 1.3505"][2] == (4, 2, 68, 125)
    floating = figures_of(paper_table(conditions, "set14", files, parse_methods("k=1"), lr_float=True))
    assert floating["k = 1"][0] == pytest.approx(26.477, abs=2e-3)
    assert floating["k = 1"][1] == pytest.approx(8.179, abs=0.05)


def figures_of(result: PaperTable) -> dict[str, tuple[float | None, float | None, tuple[int, ...] | None]]:
    def figures(row: Row) -> tuple[float | None, float | None, tuple[int, ...] | None]:
        return row.psnr, row.paper, row.classes

    return {row.method: figures(row) for row in result.rows}
