"""Pairs to measure on: found, read, made and cut."""

from pathlib import Path

import numpy as np
import pytest

from pcsr_cli.errors import InputError, UsageError
from pcsr_cli.evaluate.dataset import Pair, Source, cut_to_patch_grid, demo_picture, find_pairs, load_pair, pictures_in
from pcsr_cli.images.resize import make_lr
from tests.failing import fails
from tests.images import levels, load, save


def test_a_folder_of_hr_pictures_by_name(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        save(tmp_path / name, levels(9, 14))
    (tmp_path / "notes.txt").write_text("no picture")
    sources = find_pairs([tmp_path], 4)
    assert [source.name for source in sources] == ["a.png", "b.png"]
    pair = load_pair(sources[0], 4)
    assert pair.hr is not None and pair.hr.shape == (8, 12, 3)
    assert (pair.lr == make_lr(levels(9, 14)[:8, :12], 4)).all()


def test_pictures_are_what_upscale_takes_for_one(tmp_path: Path) -> None:
    for name in ("a.PPM", "b.heic", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in pictures_in(tmp_path)] == ["a.PPM", "b.heic"]
    with fails(InputError, "cannot be read:"):
        pictures_in(tmp_path / "nowhere")


def test_pictures_of_one_name_go_by_their_paths(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "x.png")
    save(tmp_path / "two" / "y.png")
    names = [source.name for source in find_pairs([tmp_path / "one", tmp_path / "two"], 4)]
    assert names == [str(tmp_path / "one" / "x.png"), str(tmp_path / "two" / "x.png"), "y.png"]


@pytest.mark.parametrize("lr", [False, True])
def test_a_name_too_long_for_a_file_is_none(tmp_path: Path, lr: bool) -> None:
    endless = tmp_path / ("x" * 300)
    said = f"{endless} is no folder of LR pictures." if lr else f"There is no file or folder {endless}."
    with fails(InputError, said):
        find_pairs([save(tmp_path / "a.png") if lr else endless], 4, endless if lr else None)


def test_hr_and_lr_folders_go_together_by_name(tmp_path: Path) -> None:
    for folder in ("HR", "LR_x2"):
        (tmp_path / folder).mkdir()
    save(tmp_path / "HR" / "a.png", levels(8, 12))
    lr = save(tmp_path / "LR_x2" / "a.png", levels(4, 6, seed=1))
    (source,) = find_pairs([tmp_path], 2)
    assert (load_pair(source, 2).lr == load(lr)).all()
    (elsewhere,) = find_pairs([tmp_path / "HR"], 2, tmp_path / "LR_x2")
    assert elsewhere == source
    (alone,) = find_pairs([tmp_path], 2, no_reference=True)
    assert load_pair(alone, 2).hr is None
    (single,) = find_pairs([tmp_path / "HR" / "a.png"], 2, lr)
    assert single.lr == lr


@pytest.mark.shared
def test_lr_made_is_everyones_bit_for_bit(shared: Path) -> None:
    count = 0
    for name in ("set5", "set14"):
        for source in find_pairs([shared / "images" / name], 4):
            given = load_pair(source, 4)
            made = load_pair(Source(source.name, source.hr, None), 4)
            assert (given.lr == made.lr).all(), source.name
            count += 1
    assert count == 19


@pytest.mark.parametrize(("side", "kept"), [(32, 32), (59, 32), (60, 60), (128, 116), (88, 88)])
def test_the_papers_protocol_keeps_what_patches_cover(side: int, kept: int) -> None:
    pair = Pair("a", levels(side, 40), levels(4 * side, 160), 4)
    cut = cut_to_patch_grid(pair)
    assert cut.hr is not None
    assert (cut.lr.shape[:2], cut.hr.shape[:2]) == ((kept, 32), (4 * kept, 128))
    assert (cut.lr == pair.lr[:kept, :32]).all()


def test_smaller_than_a_patch_is_refused() -> None:
    with fails(InputError, "a is smaller than a patch of 32 LR pixels."):
        cut_to_patch_grid(Pair("a", levels(31, 40), None, 4))


def test_nothing_to_measure_is_told(tmp_path: Path) -> None:
    with fails(InputError, "There is no picture in"):
        find_pairs([tmp_path], 4)
    with fails(InputError, f"There is no file or folder {tmp_path / 'nowhere'}."):
        find_pairs([tmp_path / "nowhere"], 4)
    save(tmp_path / "a.png")
    (tmp_path / "lr").mkdir()
    with fails(InputError, f"No picture of {tmp_path / 'lr'} has the name of one in {tmp_path}."):
        find_pairs([tmp_path], 4, tmp_path / "lr")
    with fails(InputError, f"{tmp_path / 'nowhere'} is no folder of LR pictures."):
        find_pairs([tmp_path], 4, tmp_path / "nowhere")
    with fails(UsageError, "LR pictures are x2.5 smaller only for whole scales."):
        find_pairs([tmp_path], 2.5)
    with fails(UsageError, "Without a reference every picture is LR, and --lr has no use."):
        find_pairs([tmp_path], 4, tmp_path, no_reference=True)


def test_sizes_that_do_not_match_the_scale_are_told(tmp_path: Path) -> None:
    hr, lr = save(tmp_path / "hr.png", levels(16, 16)), save(tmp_path / "lr.png", levels(4, 5))
    with fails(InputError, f"{lr} and {hr} do not go together at x4: 5x4 and 16x16."):
        load_pair(Source("a", hr, lr), 4)
    with fails(InputError, "A picture of 3x3 is smaller than one x4 LR pixel.") as told:
        load_pair(Source("a", save(tmp_path / "dot.png", levels(3, 3)), None), 4)
    assert "dot.png" in told.value.sentence


def test_the_photograph_that_ships_is_found() -> None:
    assert demo_picture().is_file()
    assert np.asarray(load(demo_picture())).ndim == 3
