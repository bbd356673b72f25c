"""``--model auto``: the best model that is available, the same for all images of a folder."""

import os
import shutil
import time
from pathlib import Path

import pytest

from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.hub import OUTAGE_SECONDS
from pcsr_cli.model.spec import Scales
from tests.command import UNREACHABLE, Pcsr
from tests.hub_server import Hub
from tests.images import levels, save
from tests.tiny import tiny_entry, tiny_model

NOTE = "continued without far; the next attempt is in 10 minutes."
KEPT = "Note: the folder has results of near, so all images get it. See --model."
AWAY = {"HF_ENDPOINT": UNREACHABLE}


@pytest.fixture
def here(run_pcsr: Pcsr, hub: Hub, tiny_folder: Path) -> Pcsr:
    """A registry whose best model, ``far``, is on the Hub. The other one, ``near``, is in a folder."""
    commit = hub.add("someone/tiny", tiny_folder)
    save_folder(tiny_model("fsrcnn", seed=1), Scales((4.0,)), run_pcsr.cwd / "near")
    far = f'repo = "someone/tiny"\nrevision = "{commit}"'
    text = tiny_entry("far", far, "not stated by its authors") + tiny_entry("near", 'folder = "near"')
    (run_pcsr.cwd / "own.toml").write_text('auto = ["far", "near"]\n' + text)
    run_pcsr.env["PCSR_REGISTRY"] = "own.toml"
    (run_pcsr.cwd / "in").mkdir()
    save(run_pcsr.cwd / "in" / "a.png", levels(5, 6))
    return run_pcsr


def outage(here: Pcsr) -> Path:
    return Path(here.env["HF_HOME"]) / "hub" / ".locks" / "pcsr-unreachable"


def test_a_folder_keeps_the_model_of_its_results(here: Pcsr) -> None:
    assert NOTE in here("upscale", "in", "out", env=AWAY).succeeded().stderr
    outage(here).unlink()
    save(here.cwd / "in" / "b.png", levels(7, 6))
    assert KEPT in here("plan", "in", "out").succeeded().stderr
    ran = here("upscale", "in", "out", "--json").succeeded()
    assert ran.stderr.strip() == KEPT
    totals = ran.document["totals"]
    assert (totals["done"], totals["skipped"]) == (1, 1)
    assert ran.document["reports"][0]["model"]["name"] == "near"
    other = here("upscale", "in", "other", "--json").succeeded()
    assert {report["model"]["name"] for report in other.document["reports"]} == {"far"}
    here("upscale", "in", "out", "--model", "far").failed(2, "was made with another model")


def test_the_note_about_the_model_of_a_folder_leaves_out_lossy_images(run_pcsr: Pcsr) -> None:
    for name in ("a.png", "b.png"):
        (run_pcsr.cwd / "in").mkdir(exist_ok=True)
        save(run_pcsr.cwd / "in" / name, levels(6, 5))
        ran = run_pcsr("upscale", "in", "out", env=AWAY).succeeded()
    assert "the folder has results of builtin, so all images that are not lossy get it. See --model." in ran.stderr


def test_a_folder_without_its_model_gets_no_other(here: Pcsr) -> None:
    ran = here("upscale", "in", "out").succeeded()
    assert ran.stderr.count("Note: the licence of far is not stated by its authors.") == 1
    shutil.rmtree(here.env["HF_HOME"])
    save(here.cwd / "in" / "b.png", levels(7, 6))
    here("upscale", "in", "out", env=AWAY).failed(1, "cannot be reached", "The folder has results of far.", "--model")
    assert not (here.cwd / "out" / "b_x4.png").exists()
    shutil.rmtree(here.cwd / "out")
    assert NOTE in here("upscale", "in", "out", env=AWAY).succeeded().stderr


def test_an_unreachable_hub_is_recorded_for_ten_minutes(here: Pcsr, hub: Hub) -> None:
    def upscale(**env: str) -> tuple[bool, str]:
        ran = here("upscale", "in/a.png", "out.png", "-y", env=env).succeeded()
        return NOTE in ran.stderr, here("upscale", "in/a.png", "out.png", "-y", "--json", env=env).document["model"][
            "name"
        ]

    assert upscale(**AWAY) == (True, "near")
    assert upscale(**AWAY) == (False, "near")
    earlier = time.time() - OUTAGE_SECONDS - 1
    os.utime(outage(here), (earlier, earlier))
    assert upscale(**AWAY) == (True, "near")
    assert upscale() == (False, "far")  # another Hub
    assert upscale(**AWAY) == (False, "far")  # from the cache
    hub.requests.clear()
    assert upscale() == (False, "far") and not hub.requests


def test_a_named_model_is_fetched_although_the_hub_was_unreachable(here: Pcsr, hub: Hub) -> None:
    here("upscale", "in/a.png", "out.png", env=AWAY).succeeded()
    outage(here).write_text(hub.endpoint)
    assert here("upscale", "in/a.png", "b.png", "--json").succeeded().document["model"]["name"] == "near"
    ran = here("models", "fetch", "far").succeeded()
    assert "the licence of far is not stated by its authors" in ran.stderr
    assert "licence" not in here("models", "fetch", "far").succeeded().stderr


def test_a_cache_folder_that_cannot_be_used_is_no_error(here: Pcsr) -> None:
    (here.cwd / "file").touch()
    for env in (AWAY, AWAY, {}):
        ran = here("upscale", "in/a.png", "out.png", "-y", env={**env, "HF_HOME": str(here.cwd / "file")}).succeeded()
        assert "continued without far." in ran.stderr
