"""Image pairs: finding, loading, computing LR and cropping."""

from pathlib import Path

import numpy as np
import pytest

from pcsr_cli.errors import InputError, UsageError
from pcsr_cli.evaluate.dataset import (
    Pair,
    PairFiles,
    SkippedImage,
    crop_to_patch_grid,
    demo_image,
    each_pair,
    find_pairs,
    images_in,
    load_pair,
)
from pcsr_cli.images.degrade import jpeg, parse_degradation
from pcsr_cli.images.resize import make_lr
from tests.failing import fails
from tests.images import levels, load, save


def test_a_folder_of_hr_images_is_sorted_by_name(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        save(tmp_path / name, levels(9, 14))
    (tmp_path / "notes.txt").write_text("text")
    pairs = find_pairs([tmp_path], 4)
    assert [pair.name for pair in pairs] == ["a.png", "b.png"]
    pair = load_pair(pairs[0], 4)
    assert pair.hr is not None and pair.hr.shape == (8, 12, 3)
    assert (pair.lr == make_lr(levels(9, 14)[:8, :12], 4)).all()


def test_images_are_files_with_a_readable_suffix(tmp_path: Path) -> None:
    for name in ("a.PPM", "b.heic", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in images_in(tmp_path)] == ["a.PPM", "b.heic"]
    with fails(InputError, f"Cannot read the folder {tmp_path / 'nowhere'}:"):
        images_in(tmp_path / "nowhere")


def test_pairs_with_the_same_file_name_are_named_by_their_paths(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "x.png")
    save(tmp_path / "two" / "y.png")
    names = [pair.name for pair in find_pairs([tmp_path / "one", tmp_path / "two"], 4)]
    assert names == [str(tmp_path / "one" / "x.png"), str(tmp_path / "two" / "x.png"), "y.png"]


def test_hr_and_lr_folders_are_matched_by_name(tmp_path: Path) -> None:
    for folder in ("HR", "LR_x2"):
        (tmp_path / folder).mkdir()
    save(tmp_path / "HR" / "a.png", levels(8, 12))
    lr = save(tmp_path / "LR_x2" / "a.png", levels(4, 6, seed=1))
    (pair,) = find_pairs([tmp_path], 2)
    assert (load_pair(pair, 2).lr == load(lr)).all()
    (same,) = find_pairs([tmp_path / "HR"], 2, tmp_path / "LR_x2")
    assert same == pair
    (alone,) = find_pairs([tmp_path], 2, no_reference=True)
    assert load_pair(alone, 2).hr is None
    (single,) = find_pairs([tmp_path / "HR" / "a.png"], 2, lr)
    assert single.lr == lr


def test_computed_and_given_lr_images_are_degraded(tmp_path: Path) -> None:
    hr, lr = save(tmp_path / "hr.png", levels(16, 24)), save(tmp_path / "lr.png", levels(4, 6, seed=1))
    degradation = parse_degradation("jpeg=20")
    (computed,) = find_pairs([hr], 4, degradation=degradation)
    (given,) = find_pairs([hr], 4, lr, degradation=degradation)
    (alone,) = find_pairs([lr], 4, no_reference=True, degradation=degradation)
    assert (load_pair(computed, 4).lr == jpeg(make_lr(levels(16, 24), 4), 20)).all()
    assert (load_pair(given, 4).lr == jpeg(levels(4, 6, seed=1), 20)).all()
    assert (load_pair(alone, 4).lr == load_pair(given, 4).lr).all()


@pytest.mark.shared
def test_computed_lr_images_equal_the_published_ones_bit_for_bit(shared: Path) -> None:
    count = 0
    for name in ("set5", "set14"):
        for pair in find_pairs([shared / "images" / name], 4):
            given = load_pair(pair, 4)
            computed = load_pair(PairFiles(pair.name, pair.hr, None), 4)
            assert (given.lr == computed.lr).all(), pair.name
            count += 1
    assert count == 19


@pytest.mark.parametrize(("side", "kept"), [(32, 32), (59, 32), (60, 60), (128, 116), (88, 88)])
def test_the_papers_protocol_keeps_the_area_that_patches_cover(side: int, kept: int) -> None:
    pair = Pair("a", levels(side, 40), levels(4 * side, 160), 4)
    cropped = crop_to_patch_grid(pair)
    assert cropped.hr is not None
    assert (cropped.lr.shape[:2], cropped.hr.shape[:2]) == ((kept, 32), (4 * kept, 128))
    assert (cropped.lr == pair.lr[:kept, :32]).all()


def test_an_image_smaller_than_a_patch_is_refused() -> None:
    with fails(InputError, "a is smaller than a patch of 32 LR pixels."):
        crop_to_patch_grid(Pair("a", levels(31, 40), None, 4))


def test_requests_without_any_pair_are_refused(tmp_path: Path) -> None:
    nowhere, lr, too_long = tmp_path / "nowhere", tmp_path / "lr", tmp_path / ("x" * 300)
    with fails(InputError, f"{tmp_path} contains no images."):
        find_pairs([tmp_path], 4)
    image = save(tmp_path / "a.png")
    lr.mkdir()
    for path in (nowhere, too_long):
        with fails(InputError, f"{path} does not exist."):
            find_pairs([path], 4)
        with fails(InputError, f"{path} is not a folder of LR images."):
            find_pairs([image], 4, path)
    with fails(InputError, f"{lr} contains no image with the name of an image in {tmp_path}."):
        find_pairs([tmp_path], 4, lr)
    with fails(UsageError, "Cannot compute LR images at x2.5: the scale must be a whole number."):
        find_pairs([tmp_path], 2.5)
    with fails(UsageError, "Separate LR images need a reference."):
        find_pairs([tmp_path], 4, tmp_path, no_reference=True)


def test_sizes_that_do_not_match_the_scale_are_refused(tmp_path: Path) -> None:
    hr, lr = save(tmp_path / "hr.png", levels(16, 16)), save(tmp_path / "lr.png", levels(4, 5))
    with fails(InputError, f"The sizes of {lr} and {hr} do not match x4: 5x4 and 16x16."):
        load_pair(PairFiles("a", hr, lr), 4)
    with fails(InputError, "dot.png", "An image of 3x3 is smaller than one LR pixel at x4."):
        load_pair(PairFiles("a", save(tmp_path / "dot.png", levels(3, 3)), None), 4)


def test_one_image_that_fails_or_needs_too_much_memory_is_skipped(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", levels(8, 8 + 4 * number))

    def measure(pair: Pair) -> str:
        if pair.name == "0.png":
            raise MemoryError
        if pair.name == "1.png":
            raise InputError("It is too small.")
        return pair.name

    skipped: list[SkippedImage] = []
    done, again = each_pair(find_pairs([tmp_path], 4), 4, measure, skipped.append)
    assert done == ["2.png"] and list(again) == skipped
    assert [one.reason for one in skipped] == ["0.png: There is not enough memory.", "1.png: It is too small."]
    with pytest.raises(ZeroDivisionError):
        each_pair(find_pairs([tmp_path], 4), 4, lambda pair: 1 // 0, skipped.append)


def test_the_image_that_ships_with_pcsr_exists() -> None:
    assert np.asarray(load(demo_image())).ndim == 3
