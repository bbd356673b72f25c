"""bench: every method measured as it would be by itself, and the published figures."""

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
from pcsr_cli.engine.routing import Allowance
from pcsr_cli.engine.upscale import Settings, predict_branches
from pcsr_cli.errors import InputError, ModelError, UsageError
from pcsr_cli.evaluate.bench import BenchOptions, bench, check
from pcsr_cli.evaluate.dataset import SkippedImage, find_pairs
from pcsr_cli.evaluate.methods import Method, parse_methods, patch_mask
from pcsr_cli.evaluate.metrics import psnr
from pcsr_cli.evaluate.originals import LoadedOriginal, load_original
from pcsr_cli.images.resize import make_lr, resize_bicubic_8bit
from pcsr_cli.model.backbones import ORIGINALS
from pcsr_cli.model.registry import LoadedModel
from pcsr_cli.model.spec import Scales
from tests.evaluate.test_sweep import IDENTITY
from tests.failing import fails
from tests.images import levels, save
from tests.tiny import tiny_model

MODEL = LoadedModel(tiny_model("carn"), IDENTITY, Scales((4.0,)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        save(tmp_path / f"{number}.png", levels(52, 60 + 8 * number, seed=number))
    return tmp_path


def test_every_method_side_by_side(folder: Path) -> None:
    methods = parse_methods("threshold=0.4,k=1,adm,heavy,light,patch=4,bicubic,lanczos")
    result = bench(MODEL, find_pairs([folder], 4), BenchOptions(methods, 4, 1), lambda event: None)
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


def test_without_a_reference_all_heavy_is_one(folder: Path) -> None:
    options = BenchOptions(parse_methods("heavy,light"), 4, 1)
    result = bench(MODEL, find_pairs([folder], 4, no_reference=True), options, lambda event: None)
    assert result.rows[0].psnr == math.inf and result.rows[1].psnr is not None and result.rows[1].psnr < 100


def test_a_broken_file_is_named_and_left_out(folder: Path) -> None:
    (folder / "0.png").write_bytes(b"no picture")
    told: list[object] = []
    result = bench(MODEL, find_pairs([folder], 4), BenchOptions(parse_methods("light"), 4, 1), told.append)
    assert [row.image for row in result.rows] == ["1.png"]
    assert isinstance(told[0], SkippedImage) and "0.png is not an image" in told[0].reason
    (folder / "1.png").write_bytes(b"")
    with fails(InputError, "All images failed.") as failed:
        bench(MODEL, find_pairs([folder], 4), BenchOptions(parse_methods("light"), 4, 1), told.append)
    assert "0.png" in failed.value.next_step


def test_a_budget_is_one_cut_for_all(tmp_path: Path) -> None:
    pictures = levels(52, 60, seed=0), levels(52, 68, seed=1) // 4
    for number, rgb in enumerate(pictures):
        save(tmp_path / f"{number}.png", rgb)
    model = LoadedModel(MODEL.network, replace(IDENTITY, original=None), MODEL.scales)
    options = BenchOptions((Method("heavy"), Method("budget")), 4, 1, allowance=Allowance(80, "%"))
    result = bench(model, find_pairs([tmp_path], 4), options, lambda event: None)
    heavy, budget = result.mean
    assert heavy.paper is not None and budget.paper == pytest.approx(0.8 * heavy.paper, rel=1e-3)
    seen = [
        predict_branches(MODEL.network, as_lr(make_lr(rgb, 4)), 4, Settings(refine=1)).difficulty for rgb in pictures
    ]
    shares = [row.heavy_share for row in result.rows if row.method == "budget"]
    spent = sum(round(share * each.numel()) for share, each in zip(shares, seen, strict=True) if share is not None)
    cut = torch.cat([each.view(-1) for each in seen]).sort(descending=True).values[spent]
    assert shares == [pytest.approx((each > cut).float().mean().item()) for each in seen]
    assert shares[0] != pytest.approx(shares[1], abs=0.05)


def test_the_original_network_is_known_by_its_keys(folder: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ORIGINALS["fsrcnn"]().eval()
    path = tmp_path / "original.safetensors"
    save_file(network.state_dict(), path)
    original = load_original(path, torch.device("cpu"))
    assert original.name == "fsrcnn"
    options = BenchOptions(parse_methods("original"), 4, 1, original=original)
    row = bench(MODEL, find_pairs([folder / "0.png"], 4), options, lambda event: None).rows[0]
    assert row.psnr is not None and row.paper == pytest.approx(original.cost(13 * 15).paper / 1e9)
    with fails(UsageError, "needs the weights of the original network"):
        bench(MODEL, find_pairs([folder], 4), BenchOptions(parse_methods("original"), 4, 1), lambda event: None)


def test_what_is_no_original_network_is_told(tmp_path: Path) -> None:
    path = tmp_path / "original.pth"
    contents = ({"weight": torch.zeros(1)}, "holds none of the original networks."), ([1, 2], "holds no state dict.")
    with fails(ModelError, f"There is no file {path}."):
        load_original(path, torch.device("cpu"))
    for content, said in contents:
        torch.save(content, path)
        with fails(ModelError, said):
            load_original(path, torch.device("cpu"))
    for damaged in (b"", b"\x80\x02."):
        path.write_bytes(damaged)
        with fails(ModelError, f"{path} is not a readable PyTorch checkpoint."):
            load_original(path, torch.device("cpu"))


def test_what_the_model_or_the_original_is_not_made_for_is_told() -> None:
    three = LoadedModel(tiny_model("carn", 3), IDENTITY, Scales((2.0, 4.0)))
    with fails(UsageError, "These methods need a model with two branches, not 3: threshold 0.5, patch 32."):
        check(three, BenchOptions(parse_methods("heavy,threshold,adm,patch"), 4, 1))
    check(three, BenchOptions(parse_methods("heavy,adm,light,k"), 4, 1))
    with fails(UsageError, "The model tiny was trained for x4, not x2."):
        check(MODEL, BenchOptions(parse_methods("adm"), scale=2, refine=1))
    original = LoadedOriginal("fsrcnn", ORIGINALS["fsrcnn"](8), (0, 0, 0))
    with fails(UsageError, "The original network enlarges x4."):
        check(three, BenchOptions(parse_methods("adm"), scale=2, refine=1, original=original))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "--methods names no method."),
        ("nonsense", "There is no method"),
        ("budget", "There is no method"),
        ("threshold=2", "is not a probability."),
        *((text, "is no method.") for text in ("k=x", "adm=1", "patch=0", "patch=1.5", "patch=nan")),
    ],
)
def test_what_is_no_method(text: str, said: str) -> None:
    with fails(UsageError, said):
        parse_methods(text)


def test_two_methods_have_two_names() -> None:
    labels = [method.label for method in parse_methods("threshold=0.5,threshold=0.5000001,k=1,k=-1,patch=32")]
    assert labels == ["threshold 0.5", "threshold 0.5000001", "k = 1", "k = -1", "patch 32"]


def test_methods_by_name() -> None:
    assert parse_methods("all-heavy, patch,k=-1") == (Method("heavy"), Method("patch", 32), Method("k", -1))


def test_the_hardest_patches_come_first_and_the_last_is_cut() -> None:
    difficulty = torch.zeros(4, 6)
    difficulty[:2, 2:4], difficulty[2:, 4:] = 0.9, 0.5
    mask = patch_mask(difficulty, 2, 6)
    assert mask[:2, 2:4].all() and mask[2, 4:].all() and mask.sum() == 6


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["set5", "set14"])
def test_the_published_figures(shared: Path, name: str) -> None:
    model = load_model(str(shared / "hub" / "3587jjh" / "pcsr_carn"))
    golden = json.loads((shared / "golden" / "set5_set14.json").read_text())[f"{name.capitalize()}_carn"]
    options = BenchOptions(parse_methods("threshold,adm,patch"), 4, 1, paper=True)
    result = bench(model, find_pairs([shared / "images" / name], 4), options, lambda event: None)
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
