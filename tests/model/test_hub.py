"""Models are fetched from the Hub into its standard cache, complete or not at all.

huggingface_hub reads its environment variables when it is imported, so most tests run ``pcsr models fetch`` in a new
process.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from pcsr_cli.errors import HubError
from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.hub import HubLocation, client, is_cached, is_whole, remove, revision_of
from pcsr_cli.model.spec import Scales
from tests.command import Pcsr, Ran
from tests.failing import contains, fails
from tests.hub_server import Hub, Trouble
from tests.tiny import tiny_model

REPO = "someone/tiny"


@pytest.fixture
def commit(hub: Hub, tiny_folder: Path) -> str:
    """The commit of the only model on the Hub."""
    return hub.add(REPO, tiny_folder)


@pytest.fixture
def other_folder(tmp_path: Path) -> Path:
    """The folder of a model with other weights."""
    save_folder(tiny_model("fsrcnn", seed=1), Scales((4.0,)), tmp_path / "other")
    return tmp_path / "other"


FETCH_LATER = f"Run `pcsr models fetch {REPO}"
PINNED = """
[models.tiny]
repo = "someone/tiny"
revision = "{commit}"
sha256 = "{sha256}"
backbone = {{ name = "fsrcnn", width = 8 }}
samplers = [[4], [8, 8, 8]]
classifier = []
scales = [4]
receptive_radius = 6
licence = "MIT"
source = "a test"
"""
DAMAGED = "arrived damaged: its content does not match its checksum or its format."


def fetch(run_pcsr: Pcsr, reference: str = REPO, **env: str) -> Ran:
    return run_pcsr("models", "fetch", reference, "--json", env=env)


def refused(ran: Ran, *parts: str) -> None:
    """Check that the command failed with one line that contains these parts."""
    assert contains(ran.failed(HubError.exit_code).stderr, *parts), f"another failure: {ran.stderr}"


def cache(run_pcsr: Pcsr) -> Path:
    return Path(run_pcsr.env["HF_HOME"]) / "hub" / "models--someone--tiny"


def weights(run_pcsr: Pcsr, commit: str) -> Path:
    return cache(run_pcsr) / "snapshots" / commit / "model.safetensors"


def content(folder: Path) -> list[str]:
    """Files and links of a cache, without locks and tags."""
    found = [str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
    return sorted(name for name in found if not name.endswith((".lock", "CACHEDIR.TAG")))


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def lose_blob(path: Path) -> None:
    path.resolve().unlink()


def test_a_model_is_fetched_once_into_the_standard_cache(
    run_pcsr: Pcsr, hub: Hub, commit: str, tiny_folder: Path
) -> None:
    content = (tiny_folder / "model.safetensors").read_bytes()
    expected = {"name": REPO, "revision": commit, "sha256": hashlib.sha256(content).hexdigest()}
    assert fetch(run_pcsr).succeeded().document == expected
    assert weights(run_pcsr, commit).read_bytes() == content
    assert weights(run_pcsr, commit).resolve().name == expected["sha256"]
    downloads = hub.paths("GET")
    assert {path.rpartition("/")[2] for path in hub.paths("HEAD")} == {"config.json", "model.safetensors"}
    assert downloads[0] == f"/{REPO}/resolve/main/config.json" and downloads[-1].startswith("/large/")
    assert not [path for path in downloads if path.startswith("/api")]
    assert fetch(run_pcsr).succeeded().document == expected
    assert hub.paths("GET") == downloads
    hub.requests.clear()
    assert fetch(run_pcsr, f"{REPO}@{commit}").succeeded().document["revision"] == commit
    assert hub.requests == []


def test_a_revision_is_a_branch_or_a_commit(run_pcsr: Pcsr, hub: Hub, commit: str, other_folder: Path) -> None:
    old = hub.add(REPO, other_folder, branch="old")
    for revision in ("old", old):
        assert fetch(run_pcsr, f"{REPO}@{revision}").succeeded().document["revision"] == old
    assert fetch(run_pcsr).succeeded().document["revision"] == commit
    newer = hub.add(REPO, other_folder)
    assert fetch(run_pcsr).succeeded().document["revision"] == newer != commit
    assert fetch(run_pcsr, f"{REPO}@{commit}").succeeded().document["revision"] == commit


@pytest.mark.parametrize(
    "trouble",
    [
        None,
        Trouble.BROKEN,
        pytest.param(Trouble.CLOSES_CONNECTION, marks=pytest.mark.slow),
        pytest.param(Trouble.SILENT, marks=pytest.mark.slow),
    ],
)
def test_a_cached_branch_works_without_the_hub(run_pcsr: Pcsr, hub: Hub, commit: str, trouble: Trouble | None) -> None:
    fetch(run_pcsr).succeeded()
    if trouble is None:
        hub.close()
    hub.trouble = trouble
    assert fetch(run_pcsr).succeeded().document["revision"] == commit


@pytest.mark.parametrize(
    ("name", "harm", "pinned"),
    [
        ("model.safetensors", damage, True),
        ("model.safetensors", lose_blob, True),
        ("config.json", cut_short, False),
        pytest.param("model.safetensors", cut_short, False, marks=pytest.mark.slow),
        pytest.param("config.json", damage, True, marks=pytest.mark.slow),
    ],
)
def test_a_damaged_cache_entry_is_fetched_again(
    run_pcsr: Pcsr, hub: Hub, commit: str, tiny_folder: Path, name: str, harm: Callable[[Path], None], pinned: bool
) -> None:
    reference = f"{REPO}@{commit}" if pinned else REPO
    first = fetch(run_pcsr, reference).succeeded().document
    harm(weights(run_pcsr, commit).with_name(name))
    assert fetch(run_pcsr, reference).succeeded().document == first
    assert weights(run_pcsr, commit).with_name(name).read_bytes() == (tiny_folder / name).read_bytes()


@pytest.mark.parametrize("pinned", [True, False])
def test_damage_that_cannot_be_repaired_is_an_error(run_pcsr: Pcsr, hub: Hub, commit: str, pinned: bool) -> None:
    reference = f"{REPO}@{commit}" if pinned else REPO
    fetch(run_pcsr, reference).succeeded()
    damage(weights(run_pcsr, commit))
    damaged, next_step = (
        f"model.safetensors of {REPO} is damaged in the cache, and",
        f"Run `pcsr models fetch {reference}`",
    )
    refused(fetch(run_pcsr, reference, HF_HUB_OFFLINE="1"), f"{damaged} HF_HUB_OFFLINE forbids requests.", next_step)
    hub.close()
    refused(fetch(run_pcsr, reference), f"{damaged} the Hub ({hub.endpoint}) cannot be reached.", next_step)


@pytest.mark.parametrize("trouble", [Trouble.DAMAGES, Trouble.CUTS_SHORT])
def test_wrong_bytes_are_refused_and_not_kept(run_pcsr: Pcsr, hub: Hub, commit: str, trouble: Trouble) -> None:
    hub.trouble = trouble
    refused(fetch(run_pcsr), DAMAGED)
    assert [name for name in content(cache(run_pcsr)) if not name.startswith("refs")] == []
    hub.trouble = None
    fetch(run_pcsr).succeeded()


@pytest.mark.slow
def test_wrong_bytes_do_not_replace_a_damaged_file(run_pcsr: Pcsr, hub: Hub, commit: str) -> None:
    fetch(run_pcsr).succeeded()
    damage(weights(run_pcsr, commit))
    hub.trouble = Trouble.DAMAGES
    refused(fetch(run_pcsr), DAMAGED)
    assert not weights(run_pcsr, commit).exists()
    hub.trouble = None
    fetch(run_pcsr).succeeded()


def test_an_unreachable_hub_is_an_immediate_error_with_a_next_step(run_pcsr: Pcsr) -> None:
    started = time.perf_counter()
    refused(fetch(run_pcsr), f"Cannot fetch {REPO}: the Hub (http://127.0.0.1:9) cannot be reached.", FETCH_LATER)
    assert time.perf_counter() - started < 5
    assert content(Path(run_pcsr.env["HOME"])) == []


@pytest.mark.slow
def test_the_wait_for_a_silent_hub_is_short(run_pcsr: Pcsr, hub: Hub) -> None:
    hub.trouble = Trouble.SILENT
    started = time.perf_counter()
    fetch(run_pcsr).failed(1, "cannot be reached")
    assert time.perf_counter() - started < 9


@pytest.mark.parametrize(
    ("trouble", "parts"),
    [
        (Trouble.NO_REPOSITORY, ("The Hub has no repository", REPO)),
        (Trouble.GATED, ("is gated.", REPO)),
        (Trouble.FORBIDDEN, ("Cannot fetch", "error 403")),
        (Trouble.BROKEN, ("Cannot fetch", "error 500")),
        (Trouble.CLOSES_CONNECTION, ("Cannot fetch", "cannot be reached")),
        (Trouble.NOT_A_HUB, ("is not a Hub.", "HF_ENDPOINT")),
    ],
)
def test_each_refusal_has_its_own_message(
    run_pcsr: Pcsr, hub: Hub, commit: str, trouble: Trouble, parts: tuple[str, str]
) -> None:
    hub.trouble = trouble
    refused(fetch(run_pcsr), *parts)


def test_missing_repositories_revisions_and_files_are_errors(
    run_pcsr: Pcsr, hub: Hub, commit: str, tmp_path: Path
) -> None:
    refused(fetch(run_pcsr, "someone/else"), "The Hub has no repository someone/else.")
    refused(fetch(run_pcsr, "some--one/else"), "'some--one/else' is not a valid repository name.")
    for revision in ("nowhere", "0" * 40):
        refused(fetch(run_pcsr, f"{REPO}@{revision}"), f"{REPO} has no revision {revision}.")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "README.md").write_text("no model")
    hub.add("someone/text", tmp_path / "text")
    refused(fetch(run_pcsr, "someone/text"), "someone/text lacks config.json or model.safetensors.")


@pytest.mark.parametrize("revision", ["../../../secret", "a..b/../c", "a b", "/etc", "-x"])
def test_a_revision_is_not_a_path(run_pcsr: Pcsr, hub: Hub, commit: str, revision: str) -> None:
    refused(fetch(run_pcsr, f"{REPO}@{revision}"), f"{revision!r} is not a valid revision.")
    assert all(revision not in request.path for request in hub.requests)


@pytest.mark.parametrize("honest", [0, 1], ids=["first request", "second request"])
@pytest.mark.parametrize("etag", ["{home}/evil", "../../../evil", "a/b", "..", "abc123", "0" * 5000, "%2e%2e%2fevil"])
def test_an_etag_that_is_not_a_hash_never_becomes_a_file_name(
    run_pcsr: Pcsr, hub: Hub, commit: str, etag: str, honest: int
) -> None:
    hub.forged = {"ETag": f'"{etag.format(home=run_pcsr.env["HOME"])}"'}
    hub.honest = honest
    refused(fetch(run_pcsr), "is not a Hub.")
    assert content(Path(run_pcsr.env["HOME"])) == []
    hub.forged = {}
    fetch(run_pcsr).succeeded()


@pytest.mark.parametrize("header", ["X-Linked-Etag", "X-Repo-Commit"])
def test_other_headers_never_become_file_names(run_pcsr: Pcsr, hub: Hub, commit: str, header: str) -> None:
    hub.forged, hub.honest = {header: "../../../evil"}, 2  # the requests for config.json are answered correctly
    refused(fetch(run_pcsr), "is not a Hub.")
    assert not list(Path(run_pcsr.env["HOME"]).rglob("evil*"))


@pytest.mark.parametrize("form", ['W/"{}"', "{}", '"{}"'])
def test_an_etag_may_be_weak_or_without_quotes(
    run_pcsr: Pcsr, hub: Hub, commit: str, tiny_folder: Path, form: str
) -> None:
    config = (tiny_folder / "config.json").read_bytes()
    hub.forged = {"ETag": form.format(hashlib.sha1(b"blob %d\0" % len(config) + config).hexdigest())}
    fetch(run_pcsr).succeeded()


def test_a_login_page_is_not_kept(run_pcsr: Pcsr, hub: Hub, commit: str) -> None:
    page = b"<html>Please log in to this network.</html>"
    whole = hub.repositories[REPO].commits[commit]
    for name in whole:
        hub.repositories[REPO].commits[commit] = {**whole, name: page}
        refused(fetch(run_pcsr), f"{name} of {REPO} {DAMAGED}")
        hub.repositories[REPO].commits[commit] = whole
        fetch(run_pcsr).succeeded()
        shutil.rmtree(cache(run_pcsr))


@pytest.mark.parametrize("links", ["0", "1"], ids=["links", "no links"])
def test_weights_must_have_the_sha256_of_the_registry(
    run_pcsr: Pcsr, hub: Hub, commit: str, tiny_folder: Path, links: str
) -> None:
    run_pcsr.env["HF_HUB_DISABLE_SYMLINKS"] = links
    registry = run_pcsr.cwd / "own.toml"
    right = hashlib.sha256((tiny_folder / "model.safetensors").read_bytes()).hexdigest()
    for sha256, succeeds in (("0" * 64, False), (right, True)):
        registry.write_text(PINNED.format(commit=commit, sha256=sha256))
        ran = run_pcsr("models", "fetch", "tiny", "--registry", registry, "--json")
        assert (ran.code == 0) == succeeds
        assert weights(run_pcsr, commit).exists() == succeeds
    damage(weights(run_pcsr, commit))
    run_pcsr("models", "fetch", "tiny", "--registry", registry).succeeded()
    assert weights(run_pcsr, commit).read_bytes() == (tiny_folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"ALL_PROXY": "socks9://127.0.0.1:1", "NO_PROXY": ""}, "Cannot open a connection to the Hub:"),
        ({"SSL_CERT_FILE": "/nonexistent"}, "Cannot open a connection to the Hub:"),
        ({"HF_TOKEN": "hf_schlüssel"}, f"Cannot request {REPO}:"),
    ],
    ids=str,
)
def test_an_invalid_setting_is_reported(
    run_pcsr: Pcsr, hub: Hub, commit: str, variables: dict[str, str], part: str
) -> None:
    refused(fetch(run_pcsr, **variables), part)


def test_the_token_is_sent_to_the_hub_only(run_pcsr: Pcsr, hub: Hub, commit: str) -> None:
    hub.repositories[REPO].token = "hf_secret"
    refused(fetch(run_pcsr), f"The Hub has no repository {REPO}.")
    refused(fetch(run_pcsr, HF_TOKEN="hf_wrong"), f"The Hub has no repository {REPO}.")
    hub.requests.clear()
    fetch(run_pcsr, HF_TOKEN="hf_secret").succeeded()
    for request in hub.requests:
        assert request.token == (None if request.path.startswith("/large/") else "hf_secret")


def test_an_invalid_endpoint_is_an_error(run_pcsr: Pcsr) -> None:
    for arguments in (["models", "fetch", REPO], ["models"]):
        ran = run_pcsr(*arguments, env={"HF_ENDPOINT": "http://127.0.0.1:port"})
        refused(ran, "HF_ENDPOINT is 'http://127.0.0.1:port', which is not an http(s) address.")


@pytest.mark.parametrize(
    "endpoint",
    ["nonsense", "ftp://127.0.0.1", "http://[", "http://127.0.0.1:99999", "http://a b", "http://", " ", "://x"],
)
def test_invalid_endpoints(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with fails(HubError, f"HF_ENDPOINT is {endpoint!r}, which is not an http(s) address."):
        client()


@pytest.mark.parametrize("endpoint", ["", "https://huggingface.co", "http://127.0.0.1:9/", "http://[::1]:80/mirror"])
def test_valid_endpoints(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    client()


@pytest.mark.slow
def test_processes_can_fetch_at_the_same_time(run_pcsr: Pcsr, hub: Hub, commit: str, tiny_folder: Path) -> None:
    command = [sys.executable, "-m", "pcsr_cli", "models", "fetch", REPO, "--json"]
    for _ in range(2):  # into an empty cache, then into one that is damaged
        running = [
            subprocess.Popen(command, cwd=run_pcsr.cwd, env=run_pcsr.env, stdout=subprocess.PIPE) for _ in range(3)
        ]
        documents = [json.loads(process.communicate(timeout=120)[0]) for process in running]
        assert [process.returncode for process in running] == [0] * 3
        assert {document["revision"] for document in documents} == {commit}
        assert weights(run_pcsr, commit).read_bytes() == (tiny_folder / "model.safetensors").read_bytes()
        assert not [name for name in content(cache(run_pcsr)) if name.endswith(".incomplete")]
        damage(weights(run_pcsr, commit))


def test_offline_mode_makes_no_requests(run_pcsr: Pcsr, hub: Hub, commit: str) -> None:
    refused(fetch(run_pcsr, HF_HUB_OFFLINE="1"), f"Cannot fetch {REPO}: HF_HUB_OFFLINE forbids requests.", FETCH_LATER)
    assert hub.requests == []
    fetch(run_pcsr).succeeded()
    hub.requests.clear()
    assert fetch(run_pcsr, HF_HUB_OFFLINE="1").succeeded().document["revision"] == commit
    assert hub.requests == []


def test_the_cache_is_in_hf_home(run_pcsr: Pcsr, hub: Hub, commit: str, tmp_path: Path) -> None:
    fetch(run_pcsr, HF_HOME=str(tmp_path / "elsewhere")).succeeded()
    assert (tmp_path / "elsewhere" / "hub" / "models--someone--tiny").is_dir()
    assert not cache(run_pcsr).exists()


def test_a_cache_that_cannot_be_written_is_an_error(run_pcsr: Pcsr, hub: Hub, commit: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(fetch(run_pcsr, HF_HOME=str(tmp_path / "file" / "hf")), "cannot be used:")


def test_a_full_disk_leaves_no_partial_file(run_pcsr: Pcsr, hub: Hub, commit: str) -> None:
    refused(run_pcsr("models", "fetch", REPO, max_file_size=2000), "cannot be used:", "too large")
    blobs = cache(run_pcsr) / "blobs"
    assert all(path.stat().st_size < 2000 and "incomplete" not in path.name for path in blobs.iterdir())


# The cache.

LOCATION = HubLocation("someone/tiny", "0" * 40)
CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GIT_SHA1 = hashlib.sha1(b"blob 7\0weights").hexdigest()


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cache for LOCATION."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--someone--tiny" / "snapshots" / LOCATION.revision
    folder.mkdir(parents=True)
    return folder


def put(snapshot: Path, name: str, etag: str, content: bytes = CONTENT) -> Path:
    blob = snapshot.parent.parent / "blobs" / etag
    blob.parent.mkdir(exist_ok=True)
    blob.write_bytes(content)
    (snapshot / name).symlink_to(blob)
    return snapshot / name


def test_a_cached_model_has_both_files(snapshot: Path) -> None:
    assert not is_cached(LOCATION)
    put(snapshot, "config.json", "a")
    assert not is_cached(LOCATION)
    put(snapshot, "model.safetensors", "b").resolve().unlink()
    assert not is_cached(LOCATION)
    put(snapshot, "config.json.old", "b")
    assert is_cached(LOCATION)


@pytest.mark.parametrize("etag", [SHA256, GIT_SHA1])
@pytest.mark.parametrize("content", [CONTENT, b"", b"Weights", b"weights\n"])
def test_content_must_match_the_hash_in_its_name(snapshot: Path, etag: str, content: bytes) -> None:
    assert is_whole(put(snapshot, "file", etag, content)) == (content == CONTENT)


def test_a_file_without_a_hash_in_its_name_is_whole(snapshot: Path) -> None:
    assert is_whole(put(snapshot, "blob", "another-kind-of-etag"))
    (snapshot / "file").write_bytes(b"anything")
    assert is_whole(snapshot / "file")
    assert not is_whole(snapshot / "no file")


def test_the_revision_is_the_name_of_the_snapshot(snapshot: Path) -> None:
    assert revision_of(snapshot / "file") == LOCATION.revision


def test_removing_a_file_follows_its_links(snapshot: Path, tmp_path: Path) -> None:
    # The cache has such links to blobs that several repositories share.
    shared = tmp_path / "shared"
    shared.write_bytes(CONTENT)
    blob = put(snapshot, "file", SHA256).resolve()
    blob.unlink()
    blob.symlink_to(shared)
    remove(snapshot / "file")
    assert not (snapshot / "file").is_symlink()
    assert not blob.is_symlink()
    assert not shared.exists()


def test_removing_a_missing_file_is_allowed(snapshot: Path) -> None:
    remove(snapshot / "file")
    put(snapshot, "file", SHA256).resolve().unlink()
    remove(snapshot / "file")
    assert not (snapshot / "file").is_symlink()
