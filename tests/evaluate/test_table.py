"""The paper's table: matching points, and the figures of Set14 on 8-bit and on floating-point images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pcsr_cli.api import load_model
from pcsr_cli.evaluate import table
from pcsr_cli.evaluate.arguments import Method, parse_methods, parse_peers
from pcsr_cli.evaluate.bench import BenchResult, Row
from pcsr_cli.evaluate.dataset import PairFiles, find_pairs, load_pair
from pcsr_cli.evaluate.peers import load_peers
from pcsr_cli.evaluate.table import PaperTable, find_matches, paper_table
from pcsr_cli.images.resize import make_lr, make_lr_float
from tests.evaluate.test_sweep import CONDITIONS
from tests.images import levels, save

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
    (psnr,) = (row.psnr for name, row in rows.items() if name.endswith("PSNR of threshold 0.41"))
    (paper,) = (row.paper for name, row in rows.items() if "GFLOPs of threshold 0.41" in name)
    assert psnr == pytest.approx(rows["threshold 0.41"].psnr, abs=2e-3)
    assert paper == pytest.approx(rows["threshold 0.41"].paper, rel=2e-3)
    assert (result.folder, result.images, result.notes) == ("images", 2, ())
    assert {row.image for row in result.rows} == {"images"}


def test_figures_out_of_reach_are_named(files: tuple[PairFiles, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    (peer,) = (replace(row, method="peer", paper=999.0) for row in paper_table(CONDITIONS, "", files, [HEAVY]).rows)

    def matches_of(psnr: float) -> tuple[list[str], list[str]]:
        row = replace(peer, psnr=psnr)
        monkeypatch.setattr(table, "bench", lambda *_, **__: BenchResult((row,), (row,), ()))
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
    for name, (psnr, paper) in SET14.items():
        assert figures[name][0] == pytest.approx(psnr, abs=2e-3)
        assert figures[name][1] == pytest.approx(paper, abs=0.05)
    assert figures["ClassSR"][2] == (16, 89, 94) and figures["ARM k = 1.3505"][2] == (4, 2, 68, 125)
    floating = figures_of(paper_table(conditions, "set14", files, parse_methods("k=1"), lr_float=True))
    assert floating["k = 1"][0] == pytest.approx(26.477, abs=2e-3)
    assert floating["k = 1"][1] == pytest.approx(8.179, abs=0.05)


def figures_of(result: PaperTable) -> dict[str, tuple[float | None, float | None, tuple[int, ...] | None]]:
    def figures(row: Row) -> tuple[float | None, float | None, tuple[int, ...] | None]:
        return row.psnr, row.paper, row.classes

    return {row.method: figures(row) for row in result.rows}
