"""The patch cache: which patches are cut, kept, skipped and deleted."""

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from pcsr_cli.errors import OutputError, TrainingError
from pcsr_cli.images.files import machine
from pcsr_cli.training import patches as cache
from pcsr_cli.training.config import SourceConfig, TrainConfig
from pcsr_cli.training.log import Decoded, Event, Skipped, ignore
from pcsr_cli.training.patches import open_patches
from tests.failing import fails


def with_data(recipe: TrainConfig, **changes: object) -> TrainConfig:
    return replace(recipe, data=replace(recipe.data, **changes))


def test_images_are_cut_once_unless_the_cache_is_deleted(recipe: TrainConfig) -> None:
    events: list[Event] = []
    patches = open_patches(recipe, 40, events.append)
    assert patches.shape == (8, 48, 48, 3) and patches.dtype == np.uint8
    assert sum(isinstance(event, Decoded) for event in events) == 2
    events.clear()
    open_patches(recipe, 40, events.append)
    assert not events
    (path,) = (recipe.folder / "cache").iterdir()
    path.unlink()
    assert np.array_equal(open_patches(recipe, 40, events.append), patches)
    assert events


def test_changed_settings_or_images_make_new_patches(recipe: TrainConfig) -> None:
    open_patches(recipe, 40, ignore)
    assert open_patches(with_data(recipe, keep=0.5), 40, ignore).shape[0] == 4
    source = SourceConfig("images", reductions=(1.0, 2.0))
    assert open_patches(with_data(recipe, sources=(source,)), 40, ignore).shape[0] == 10
    (recipe.folder / "images" / "1.png").unlink()
    assert open_patches(recipe, 40, ignore).shape[0] == 4


def test_the_most_detailed_patches_are_kept(recipe: TrainConfig) -> None:
    flat = np.full((48, 96, 3), 90, np.uint8)
    flat[:, 48:] = np.random.default_rng(0).integers(256, size=(48, 48, 3))
    for path in (recipe.folder / "images").iterdir():
        path.unlink()
    Image.fromarray(flat).save(recipe.folder / "images" / "half.png")
    (patch,) = open_patches(with_data(recipe, keep=0.5), 40, ignore)
    assert np.array_equal(patch, flat[:, 48:])


def test_broken_and_small_images_are_reported_and_skipped(recipe: TrainConfig) -> None:
    folder = recipe.folder / "images"
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:300])
    Image.new("RGB", (20, 20)).save(folder / "small.png")
    (folder / "link.png").symlink_to("missing.png")
    events: list[Event] = []
    assert open_patches(recipe, 40, events.append).shape[0] == 8
    skipped = {event.path.name: event.reason for event in events if isinstance(event, Skipped)}
    assert set(skipped) == {"broken.png", "small.png"}
    assert "smaller than a patch" in skipped["small.png"]


def test_folders_without_usable_images_are_refused(recipe: TrainConfig) -> None:
    (recipe.folder / "empty").mkdir()
    for source, reason in (
        (SourceConfig("missing"), f"There is no folder {recipe.folder / 'missing'}."),
        (SourceConfig("empty"), f"There is no image in {recipe.folder / 'empty'}."),
        (SourceConfig("images", exclude=("*.png",)), f"There is no image in {recipe.folder / 'images'}."),
    ):
        with fails(TrainingError, reason):
            open_patches(with_data(recipe, sources=(source,)), 40, ignore)
    with fails(TrainingError, "No image is as large as a patch of 200 pixels."):
        open_patches(with_data(recipe, patch=200), 40, ignore)
    with fails(TrainingError, "Patches of 48 pixels are too small.", "Set data.patch to at least 49."):
        open_patches(recipe, 49, ignore)


def test_an_image_replaced_by_another_of_the_same_size_makes_new_patches(recipe: TrainConfig) -> None:
    image = recipe.folder / "images" / "0.bmp"
    changed = np.random.default_rng(0).integers(256, size=(48, 48, 3), dtype=np.uint8)
    Image.new("RGB", (48, 48)).save(image)
    open_patches(recipe, 40, ignore)
    Image.fromarray(changed).save(image)
    assert any(np.array_equal(patch, changed) for patch in open_patches(recipe, 40, ignore))


def test_only_files_that_pcsr_made_are_deleted(recipe: TrainConfig) -> None:
    folder = recipe.folder / "cache"
    open_patches(recipe, 40, ignore)
    (old,) = folder.iterdir()
    np.save(folder / "patches-of-mine.npy", np.zeros(3))
    (folder / "patches-empty.npy").touch()
    (folder / "patches-folder.npy").mkdir()
    (folder / "patches-link.npy").symlink_to(old)
    kept = set(folder.iterdir()) - {old}
    leftover = folder / f".pcsr-{machine()}01234567.part"
    leftover.write_bytes(b"partial")
    open_patches(with_data(recipe, keep=0.5), 40, ignore)
    (new,) = {path for path in folder.iterdir() if not path.is_symlink()} - kept
    assert new != old and kept < set(folder.iterdir())
    leftover.touch()
    open_patches(with_data(recipe, keep=0.5), 40, ignore)
    assert not leftover.exists() and new.exists()


@pytest.mark.parametrize("kept", [0, 5, 300, -30])
def test_a_damaged_cache_is_made_again(recipe: TrainConfig, kept: int) -> None:
    expected = np.array(open_patches(recipe, 40, ignore))
    (path,) = (recipe.folder / "cache").iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:kept] + (cache.MARK if kept else b""))
    assert np.array_equal(open_patches(recipe, 40, ignore), expected)
    assert path.read_bytes() == content


def test_a_full_disk_leaves_no_files(recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_choose", fail)
    cache_folder = recipe.folder / "cache"
    with fails(OutputError, "cannot be written:", "Free space, or choose another"):
        open_patches(recipe, 40, ignore)
    assert not list(cache_folder.iterdir())
    with fails(OutputError, "Cannot make the folder"):
        open_patches(with_data(recipe, cache="images/0.png"), 40, ignore)
