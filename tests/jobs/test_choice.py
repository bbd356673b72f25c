"""The models of a run: each is loaded once, and only if an image needs it."""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from pcsr_cli.api import load_model
from pcsr_cli.images.source import CLEAN, SourceKind
from pcsr_cli.jobs.choice import ModelChoice
from pcsr_cli.model.registry import LoadedModel
from tests.images import levels, save

LOSSY = SourceKind(True, "WebP")


class Loads:
    """Loads a model for each kind of source, and records that."""

    def __init__(self, folder: Path) -> None:
        self.models = {lossy: load_model(str(folder)) for lossy in (False, True)}
        self.calls: list[bool] = []

    def __call__(self, lossy: bool) -> LoadedModel:
        self.calls.append(lossy)
        time.sleep(0.01)
        return self.models[lossy]


@pytest.fixture
def loads(tiny_folder: Path) -> Loads:
    return Loads(tiny_folder)


def test_each_model_is_loaded_once_and_when_it_is_needed(loads: Loads, tmp_path: Path) -> None:
    choice = ModelChoice(loads, by_source=True)
    choice.prepare([save(tmp_path / "a.jpg"), save(tmp_path / "b.jpg")])
    assert loads.calls == [True]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(choice.get, [CLEAN, LOSSY, None] * 8))
    assert found == [loads.models[False], loads.models[True], loads.models[False]] * 8
    assert loads.calls == [True, False]


def test_the_pixels_decide_for_a_file_that_was_not_lossy(loads: Loads, tmp_path: Path) -> None:
    clean, lossy = loads.models[False], loads.models[True]
    png, jpeg, damaged = save(tmp_path / "a.png"), save(tmp_path / "b.jpg"), tmp_path / "c.png"
    damaged.write_bytes(b"damaged")
    choice = ModelChoice(loads, by_source=True)
    assert [choice.possible(path) for path in (png, jpeg, damaged)] == [(clean, lossy), (lossy,), (clean, lossy)]
    assert [choice.is_certain(path) for path in (png, jpeg, damaged)] == [False, True, False]
    requested = ModelChoice(loads, by_source=True, kind=CLEAN)
    assert [requested.possible(path) for path in (png, jpeg, damaged)] == [(clean,)] * 3
    assert requested.is_certain(png)
    assert requested.find_kind(jpeg, levels()) == CLEAN


def test_a_stream_has_a_kind(loads: Loads) -> None:
    file = io.BytesIO()
    Image.fromarray(levels()).save(file, "JPEG", quality=60)
    choice = ModelChoice(loads, by_source=True)
    choice.prepare([file])
    assert choice.loaded == (loads.models[True],)
    assert choice.find_kind(file, levels()) == SourceKind(True, "JPEG", 60)


def test_without_a_model_for_lossy_sources_there_is_one_model(loads: Loads, tmp_path: Path) -> None:
    choice = ModelChoice(loads)
    path = save(tmp_path / "a.jpg")
    choice.prepare([path])
    assert choice.find_kind(path, levels()) is None
    assert choice.get(LOSSY) is loads.models[False]
    assert choice.possible(path) == (loads.models[False],)
    assert loads.calls == [False]
