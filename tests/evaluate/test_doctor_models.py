"""Cache, models and Hub: what is wrong is named, and nobody else's files are looked into."""

import threading
from pathlib import Path

import pytest
from huggingface_hub import constants

from pcsr_cli.evaluate import doctor as models
from pcsr_cli.evaluate.doctor import Finding, State, examine_models
from pcsr_cli.model.registry import HubLocation
from tests.model.test_hub_cache import SHA256, put

SIGNED = b'{"heavy_sampler_spec": {}}'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a Hub that answers."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(models, "reach", lambda location, name: None)
    return tmp_path


def found() -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine_models(None)}


def snapshot(cache: Path) -> Path:
    folder = cache / "models--someone--tiny" / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    return folder


def test_where_all_is_well_nothing_is_asked_for(cache: Path) -> None:
    assert {finding.state for finding in found().values()} == {State.FINE}
    assert found()["model builtin"].facts["sha256"] is not None
    assert list(cache.iterdir()) == []


def test_the_cache_is_measured(cache: Path) -> None:
    put(snapshot(cache), "model.safetensors", SHA256, b"weights")
    assert found()["cache"].facts == {"folder": str(cache), "bytes": 7, "writable": True}


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "ENOUGH_ROOM", 2**80)
    assert found()["cache"].state is State.SHORT


def test_a_model_that_is_none_of_ours_is_left_alone(cache: Path) -> None:
    folder = snapshot(cache)
    put(folder, "config.json", "a", b'{"model_type": "llama"}')
    put(folder, "model.safetensors", SHA256, b"changed")
    assert "cache entry" not in found()


@pytest.mark.parametrize(("config", "weights"), [("a", SHA256), (SHA256, "a")], ids=["weights", "config"])
def test_a_damaged_entry_is_named(cache: Path, config: str, weights: str) -> None:
    folder = snapshot(cache)
    put(folder, "config.json", config, SIGNED)
    put(folder, "model.safetensors", weights, b"changed")
    told = found()["cache entry"]
    assert told.state is State.BROKEN
    assert told.next_step == f"Run: pcsr models fetch someone/tiny@{'0' * 40}"
    assert told.facts["files"] == ["config.json" if weights == "a" else "model.safetensors"]


def test_a_hub_that_never_answers_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def silent(location: HubLocation, name: str) -> None:
        released.wait(60)

    monkeypatch.setattr(models, "reach", silent)
    monkeypatch.setattr(models, "PATIENCE", 0.05)
    told = found()["hub"]
    released.set()
    assert told.state is State.SHORT and "does not answer" in told.said
