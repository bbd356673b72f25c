"""``pcsr doctor``: every problem has a name, a next step and an exit code."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import pcsr_cli
from tests.command import Pcsr
from tests.hub_server import Hub, login_page
from tests.model.test_hub import REPO, damage, weights

BUILTIN = Path(pcsr_cli.__file__).parent / "builtin"


def examine(run_pcsr: Pcsr, code: int, *arguments: str | Path, **env: str) -> dict[str, Any]:
    """The findings by subject."""
    ran = run_pcsr("doctor", "--json", *arguments, env=env)
    assert ran.code == code, ran.stderr
    assert ("checks failed." in ran.stderr) is (code == 1)
    document = ran.document
    assert document["healthy"] is (code == 0)
    return {finding["subject"]: finding for finding in document["findings"]}


def test_every_check_is_one_line(run_pcsr: Pcsr) -> None:
    ran = run_pcsr("doctor").succeeded()
    lines = ran.stdout.splitlines()
    assert f"pcsr {pcsr_cli.__version__}" in lines[0]
    for subject in ("torch", "device", "memory", "threads", "cache", "model builtin", "hub", "formats"):
        assert any(line[8:].startswith(subject) for line in lines), subject


def test_an_unreachable_hub_is_missing(run_pcsr: Pcsr) -> None:
    hub = examine(run_pcsr, 0)["hub"]
    assert (hub["state"], hub["reachable"]) == ("missing", False)
    assert "Cannot fetch 3587jjh/pcsr_carn:" in hub["message"]
    assert "packaged models work without the Hub." in hub["message"]
    with_password = examine(run_pcsr, 0, HF_ENDPOINT="http://me:secret@127.0.0.1:9")["hub"]
    assert "127.0.0.1:9" in with_password["message"] and "secret" not in str(with_password)
    offline = examine(run_pcsr, 0, HF_HUB_OFFLINE="1")["hub"]
    assert offline["state"] == "missing" and "HF_HUB_OFFLINE" in offline["message"]


def test_a_reachable_hub_is_ok(run_pcsr: Pcsr, hub: Hub, tiny_folder: Path) -> None:
    finding = examine(run_pcsr, 0, "--registry", _pinned(run_pcsr, hub, tiny_folder))["hub"]
    assert (finding["state"], finding["reachable"]) == ("ok", True)
    assert hub.paths("GET") == [], "nothing is fetched"
    hub.tamper = login_page
    assert examine(run_pcsr, 0)["hub"]["state"] == "missing"


def _pinned(run_pcsr: Pcsr, hub: Hub, tiny_folder: Path) -> Path:
    """A registry with the location of carn on the test Hub."""
    commit = hub.add("3587jjh/pcsr_carn", tiny_folder)
    own = run_pcsr.scratch / "own.toml"
    text = (Path(pcsr_cli.__file__).parent.parent / "weights.toml").read_text(encoding="utf-8")
    carn = text[text.index("[models.carn]") : text.index("[models.builtin]")]
    own.write_text(carn.replace("aa0c7379914ee54c416ef79b5d13e898a4379ebc", commit))
    return own


def test_a_damaged_cache_entry_is_a_problem(run_pcsr: Pcsr, hub: Hub, tiny_folder: Path) -> None:
    commit = hub.add(REPO, tiny_folder)
    run_pcsr("models", "fetch", REPO).succeeded()
    assert "cache entry" not in examine(run_pcsr, 0)
    damage(weights(run_pcsr, commit))
    entry = examine(run_pcsr, 1)["cache entry"]
    assert (entry["state"], entry["repo"], entry["files"]) == ("problem", REPO, ["model.safetensors"])
    run_pcsr(*entry["next_step"].removeprefix("Run: pcsr ").split()).succeeded()
    assert "cache entry" not in examine(run_pcsr, 0)


def test_a_damaged_registry_model_is_downloaded_again(run_pcsr: Pcsr, hub: Hub, tiny_folder: Path) -> None:
    own = _pinned(run_pcsr, hub, tiny_folder)
    run_pcsr("models", "fetch", REPO).failed(1)
    run_pcsr("models", "fetch", "3587jjh/pcsr_carn").succeeded()
    cached = Path(run_pcsr.env["HF_HOME"]) / "hub" / "models--3587jjh--pcsr_carn"
    (file,) = cached.glob("snapshots/*/model.safetensors")
    damage(file)
    finding = examine(run_pcsr, 1, "--registry", own)
    assert (finding["model carn"]["state"], finding["cache entry"]["state"]) == ("missing", "problem")


def test_an_unwritable_cache_is_a_problem(run_pcsr: Pcsr) -> None:
    (run_pcsr.scratch / "file").write_text("")
    cache = examine(run_pcsr, 1, HF_HOME=str(run_pcsr.scratch / "file"))["cache"]
    assert (cache["state"], cache["writable"]) == ("problem", False)
    assert "HF_HOME" in cache["next_step"]


@pytest.mark.slow
def test_a_missing_plug_in_is_reported(run_pcsr: Pcsr) -> None:
    hidden = run_pcsr.scratch / "pillow_heif"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ImportError('libheif is missing')")
    env = {"PYTHONPATH": f"{run_pcsr.scratch}:{run_pcsr.env['PYTHONPATH']}"}
    ran = run_pcsr.in_new_interpreter("doctor", env=env).succeeded()
    assert "libheif is missing" in ran.stdout and "-> Run: pip install pillow-heif" in ran.stdout


@pytest.mark.parametrize("whole", [True, False], ids=["other weights", "cut short"])
def test_wrong_weights_are_a_problem(run_pcsr: Pcsr, whole: bool) -> None:
    shutil.copytree(BUILTIN, run_pcsr.scratch / "builtin")
    file = run_pcsr.scratch / "builtin" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01" if whole else file.read_bytes()[:-100])
    text = (Path(pcsr_cli.__file__).parent.parent / "weights.toml").read_text(encoding="utf-8")
    own = run_pcsr.scratch / "own.toml"
    own.write_text(text[text.index("[models.builtin]") :].replace("packaged", "folder"))
    finding = examine(run_pcsr, 1, "--registry", own)["model builtin"]
    assert finding["state"] == "problem"
    problem = "but its registry entry requires" if whole else "is not a complete safetensors file:"
    assert problem in f"{finding['message']} {finding['next_step']}"


def test_an_unreadable_registry_is_a_problem(run_pcsr: Pcsr) -> None:
    finding = examine(run_pcsr, 1, "--registry", "nowhere.toml")["registry"]
    assert finding["state"] == "problem"
    assert "Cannot read the registry" in f"{finding['message']} {finding['next_step']}"
