from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pcsr_cli.errors import OutputError, TrainingError
from pcsr_cli.training import patches as cache
from pcsr_cli.training.config import DataConfig, SourceConfig, TrainConfig
from pcsr_cli.training.events import Decoded, Event, Skipped, ignore
from pcsr_cli.training.patches import open_patches
from tests.failing import fails


def with_data(recipe: TrainConfig, **changes: object) -> TrainConfig:
    return replace(recipe, data=replace(recipe.data, **changes))  # type: ignore[arg-type]


def test_pictures_become_patches_once(recipe: TrainConfig) -> None:
    events: list[Event] = []
    patches = open_patches(recipe, 40, events.append)
    assert patches.shape == (8, 48, 48, 3) and patches.dtype == np.uint8
    assert not patches.flags.writeable
    assert sum(isinstance(event, Decoded) for event in events) == 2
    events.clear()
    open_patches(recipe, 40, events.append)
    assert not events


def test_a_changed_recipe_or_folder_makes_new_patches(recipe: TrainConfig) -> None:
    open_patches(recipe, 40, ignore)
    assert open_patches(with_data(recipe, keep=0.5), 40, ignore).shape[0] == 4
    source = SourceConfig(Path("pictures"), reductions=(1.0, 2.0))
    assert open_patches(with_data(recipe, sources=(source,)), 40, ignore).shape[0] == 10
    (recipe.folder / "pictures" / "1.png").unlink()
    assert open_patches(recipe, 40, ignore).shape[0] == 4


def test_the_most_detailed_patches_are_kept(recipe: TrainConfig) -> None:
    flat = np.full((48, 96, 3), 90, np.uint8)
    flat[:, 48:] = np.random.default_rng(0).integers(256, size=(48, 48, 3))
    for path in (recipe.folder / "pictures").iterdir():
        path.unlink()
    Image.fromarray(flat).save(recipe.folder / "pictures" / "half.png")
    (patch,) = open_patches(with_data(recipe, keep=0.5), 40, ignore)
    assert np.array_equal(patch, flat[:, 48:])


def test_broken_and_small_pictures_are_named_and_skipped(recipe: TrainConfig) -> None:
    folder = recipe.folder / "pictures"
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:300])
    Image.new("RGB", (20, 20)).save(folder / "small.png")
    (folder / "link.png").symlink_to("nowhere.png")
    events: list[Event] = []
    assert open_patches(recipe, 40, events.append).shape[0] == 8
    skipped = {event.path.name: event.reason for event in events if isinstance(event, Skipped)}
    assert set(skipped) == {"broken.png", "small.png"}
    assert "smaller than a patch" in skipped["small.png"]


def test_folders_without_usable_pictures_are_refused(recipe: TrainConfig) -> None:
    with fails(TrainingError, f"There is no folder {recipe.folder / 'nowhere'}."):
        open_patches(with_data(recipe, sources=(SourceConfig(Path("nowhere")),)), 40, ignore)
    (recipe.folder / "empty").mkdir()
    with fails(TrainingError, f"There is no picture in {recipe.folder / 'empty'}."):
        open_patches(with_data(recipe, sources=(SourceConfig(Path("empty")),)), 40, ignore)
    everything = SourceConfig(Path("pictures"), exclude=("*.png",))
    with fails(TrainingError, f"There is no picture in {recipe.folder / 'pictures'}."):
        open_patches(with_data(recipe, sources=(everything,)), 40, ignore)
    with fails(TrainingError, "No picture holds a patch of 200 pixels."):
        open_patches(with_data(recipe, patch=200), 40, ignore)
    with fails(TrainingError, "Patches of 48 pixels are too small.", "Set data.patch to at least 49."):
        open_patches(recipe, 49, ignore)


def test_a_picture_replaced_by_another_of_the_same_size_is_noticed(recipe: TrainConfig) -> None:
    picture = recipe.folder / "pictures" / "0.bmp"
    changed = np.random.default_rng(0).integers(256, size=(48, 48, 3), dtype=np.uint8)
    Image.new("RGB", (48, 48)).save(picture)
    open_patches(recipe, 40, ignore)
    Image.fromarray(changed).save(picture)
    assert any(np.array_equal(patch, changed) for patch in open_patches(recipe, 40, ignore))


def test_a_removed_cache_is_made_again_and_an_old_one_removed(recipe: TrainConfig) -> None:
    folder = recipe.folder / "cache"
    before = open_patches(recipe, 40, ignore).copy()
    (old,) = folder.iterdir()
    old.unlink()
    assert np.array_equal(open_patches(recipe, 40, ignore), before)
    (folder / ".pcsr-0123456789abcdef.part").write_bytes(b"left by a run that was killed")
    open_patches(with_data(recipe, keep=0.5), 40, ignore)
    (left,) = folder.iterdir()
    assert left != old


def test_a_full_disk_is_one_sentence_and_leaves_nothing(recipe: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_choose", fail)
    cache_folder = recipe.folder / "cache"
    with fails(OutputError, "cannot be written:", "Free space, or choose another"):
        open_patches(recipe, 40, ignore)
    assert not list(cache_folder.iterdir())
    with fails(OutputError, "cannot be made:"):
        open_patches(with_data(recipe, cache=Path("pictures/0.png")), 40, ignore)


def test_data_defaults_suit_a_single_folder() -> None:
    assert DataConfig(sources=(SourceConfig(Path("DIV2K")),)).patch == 192
