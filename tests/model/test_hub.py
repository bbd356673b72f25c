"""Models are fetched from the Hub into its standard cache, complete or not at all.

huggingface_hub reads its environment variables when it is imported, so many tests run ``pcsr models fetch`` in a new
process. The tests of a hostile Hub run here, with short time limits.
"""

import gzip
import hashlib
import itertools
import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants, hf_hub_download

from pcsr_cli.errors import HubError, HubSettingError, ModelError
from pcsr_cli.model import hub as hub_module
from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.hub import Fetched, HubLocation, is_cached, is_whole, remove, revision_of
from pcsr_cli.model.registry import Registry, find_model
from pcsr_cli.model.spec import Scales
from pcsr_cli.model.transfer import USUAL, Bounds
from tests.command import Pcsr, Ran
from tests.failing import contains, fails
from tests.hub_server import (
    Answer,
    Hub,
    Request,
    Tamper,
    body,
    git_sha1,
    headers,
    login_page,
    on,
    once,
    raw,
    redirect,
    slowly,
    status,
)
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


@pytest.fixture
def true_content(hub: Hub, commit: str) -> dict[str, bytes]:
    return dict(hub.repositories[REPO].commits[commit])


@pytest.fixture
def here(run_pcsr: Pcsr, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home folder, whose Hub cache this process uses."""
    home = Path(run_pcsr.env["HOME"])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hf" / "hub"))
    use_endpoint(monkeypatch, hub.endpoint)
    for name, value in {"NO_PROXY": "*", "HF_TOKEN": TOKEN, "HF_ENDPOINT": hub.endpoint}.items():
        monkeypatch.setenv(name, value)
    close_session()
    yield home
    close_session()


@pytest.fixture
def pinned(commit: str, true_content: dict[str, bytes]) -> HubLocation:
    """The location of the model, pinned as that of ``carn`` is."""
    config, weights = true_content["config.json"], true_content["model.safetensors"]
    hashes = hashlib.sha256(weights).hexdigest(), hashlib.sha256(config).hexdigest()
    return HubLocation(REPO, commit, sha256=hashes[0], config_sha256=hashes[1], size=len(weights))


TOKEN = "hf_secret"
FETCH_LATER = f"Run `pcsr models fetch {REPO}"
CERTIFICATES = ssl.get_default_verify_paths().openssl_cafile
DAMAGED = "arrived damaged: the content does not match the checksum or the format."


def use_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Set the address of the Hub for this process."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def fetch(run_pcsr: Pcsr, reference: str = REPO, **env: str) -> Ran:
    """Fetch by command."""
    return run_pcsr("models", "fetch", reference, "--json", env=env)


def refused(ran: Ran, *parts: str) -> None:
    """Check that the command failed with one line that contains these parts."""
    assert contains(ran.failed(HubError.exit_code).stderr, *parts), f"another failure: {ran.stderr}"


def fetch_here(revision: str = "main", repo: str = REPO) -> Fetched:
    """Fetch in this process."""
    return hub_module.fetch(HubLocation(repo, revision), f"{repo}@{revision}")


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
    assert downloads[0] == f"/{REPO}/resolve/main/config.json" and downloads[-1].startswith("/large/")
    assert not [path for path in downloads if path.startswith("/api")]
    assert fetch(run_pcsr).succeeded().document == expected
    assert hub.paths("GET") == downloads
    hub.requests.clear()
    assert fetch(run_pcsr, f"{REPO}@{commit}").succeeded().document["revision"] == commit
    assert hub.requests == []


def test_a_revision_is_a_branch_or_a_commit(here: Path, hub: Hub, commit: str, other_folder: Path) -> None:
    old = hub.add(REPO, other_folder, branch="old")
    assert [fetch_here(revision).revision for revision in ("old", old, "main")] == [old, old, commit]
    newer = hub.add(REPO, other_folder)
    assert [fetch_here(revision).revision for revision in ("main", commit)] == [newer, commit]
    assert newer != commit


@pytest.mark.parametrize(
    "tamper", [None, status(500), login_page, raw(list)], ids=["closed", "500", "login page", "reset"]
)
def test_a_cached_branch_works_without_the_hub(here: Path, hub: Hub, commit: str, tamper: Tamper | None) -> None:
    first = fetch_here()
    if tamper is None:
        hub.close()
    hub.tamper = tamper
    assert fetch_here() == replace(first, new=())


@pytest.mark.parametrize("revision", ["main", "commit"])
@pytest.mark.parametrize("harm", [damage, lose_blob, cut_short])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_cache_entry_is_fetched_again(
    here: Path, commit: str, true_content: dict[str, bytes], name: str, harm: Callable[[Path], None], revision: str
) -> None:
    revision = commit if revision == "commit" else revision
    path = fetch_here(revision).config.with_name(name)
    harm(path)
    assert fetch_here(revision).new == (path,)
    assert path.read_bytes() == true_content[name]


@pytest.mark.parametrize("revision", ["main", "commit"])
def test_damage_that_cannot_be_repaired_is_an_error(
    here: Path, hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    revision = commit if revision == "commit" else revision
    damage(fetch_here(revision).weights)
    damaged = f"model.safetensors of {REPO} is damaged in the cache, and"
    next_step = f"{FETCH_LATER}@{revision}`"
    with monkeypatch.context() as offline, fails(HubError, f"{damaged} HF_HUB_OFFLINE forbids requests.", next_step):
        offline.setattr(constants, "HF_HUB_OFFLINE", True)
        fetch_here(revision)
    hub.close()
    with fails(HubError, f"{damaged} the Hub ({hub.endpoint}) cannot be reached.", next_step):
        fetch_here(revision)


def test_an_unreachable_hub_is_an_error_with_a_next_step(run_pcsr: Pcsr) -> None:
    refused(fetch(run_pcsr), f"Cannot fetch {REPO}: the Hub (http://127.0.0.1:9) cannot be reached.", FETCH_LATER)
    assert content(Path(run_pcsr.env["HOME"])) == []


@pytest.mark.parametrize(
    ("repo", "revision", "message"),
    [
        ("someone/else", "main", "The Hub has no repository someone/else."),
        ("some--one/else", "main", "'some--one/else' is not a valid repository name."),
        (REPO, "nowhere", f"{REPO} has no revision nowhere."),
        (REPO, "0" * 40, f"{REPO} has no revision 000"),
        ("someone/text", "main", "someone/text lacks config.json."),
    ],
)
def test_missing_repositories_revisions_and_files_are_errors(
    here: Path, hub: Hub, commit: str, tmp_path: Path, repo: str, revision: str, message: str
) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "README.md").write_text("no model")
    hub.add("someone/text", tmp_path / "text")
    with fails(HubError, message):
        fetch_here(revision, repo)


@pytest.mark.parametrize("revision", ["../../../secret", "a..b/../c", "a b", "/etc", "-x"])
def test_a_revision_is_not_a_path(here: Path, hub: Hub, commit: str, revision: str) -> None:
    with fails(HubError, f"{revision!r} is not a valid revision."):
        fetch_here(revision)
    assert hub.requests == []


@pytest.mark.parametrize("form", ['W/"{}"', "{}", '"{}"'])
def test_an_etag_may_be_weak_or_without_quotes(
    here: Path, hub: Hub, pinned: HubLocation, true_content: dict[str, bytes], form: str
) -> None:
    hub.tamper = headers(ETag=form.format(git_sha1(true_content["config.json"])))
    assert hub_module.fetch(pinned, REPO).config.read_bytes() == true_content["config.json"]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
@pytest.mark.parametrize("pin", ["sha256", "config_sha256"])
def test_a_download_must_have_the_sha256_of_the_registry(
    here: Path, pinned: HubLocation, monkeypatch: pytest.MonkeyPatch, links: bool, pin: str
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", not links)
    other = "0" * 64
    wrong = replace(pinned, sha256=other) if pin == "sha256" else replace(pinned, config_sha256=other)
    with fails(HubError, f"of {REPO} arrived damaged:"):
        hub_module.fetch(wrong, REPO)
    fetched = hub_module.fetch(pinned, REPO)
    assert len(fetched.new) == (2 if pin == "config_sha256" else 1)
    assert [path.is_symlink() for path in (fetched.config, fetched.weights)] == [links, links]
    damage(fetched.weights)
    assert hub_module.fetch(pinned, REPO).new == (fetched.weights,)


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"ALL_PROXY": "socks9://me:pass@[::1]:1", "NO_PROXY": ""}, "The proxy settings are invalid: Unknown scheme"),
        ({"HTTP_PROXY": "http://127.0.0.1:port", "NO_PROXY": ""}, "The proxy settings are invalid:"),
        ({"ALL_PROXY": "socks5://[::1]:1", "NO_PROXY": ""}, "a SOCKS proxy, which needs the Python package socksio"),
        ({"SSL_CERT_FILE": "/nonexistent"}, "Cannot use SSL_CERT_FILE /nonexistent: no such file or directory."),
        ({"SSL_CERT_FILE": __file__}, ": there is no certificate."),
        ({"SSLKEYLOGFILE": "/none/log", "SSL_CERT_FILE": CERTIFICATES}, "Cannot use SSLKEYLOGFILE /none/log: "),
        ({"HF_TOKEN": "hf_schlüssel"}, "HF_TOKEN contains characters that a token cannot have."),
        ({"HF_TOKEN": "hf_a\tb"}, "HF_TOKEN contains characters that a token cannot have."),
        ({"HF_ENDPOINT": "http://me:pass@["}, "HF_ENDPOINT is 'http://[', which is not an http(s) address."),
    ],
    ids=str,
)
def test_an_invalid_setting_is_a_mistake_of_the_user(
    here: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], part: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with fails(HubSettingError, part) as raised:
        fetch_here()
    assert "pass" not in str(raised.value)


def test_a_variable_that_huggingface_hub_cannot_read_is_named(run_pcsr: Pcsr) -> None:
    fetch(run_pcsr, HF_HUB_ETAG_TIMEOUT="soon").failed(2, "The value of HF_HUB_ETAG_TIMEOUT is invalid.")


@pytest.mark.parametrize(
    "variables",
    [
        {"HF_HUB_ENABLE_HF_TRANSFER": "1"},
        {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1", "HF_XET_HIGH_PERFORMANCE": "1"},
        {"HF_HUB_VERBOSITY": "chatty"},
        {"HF_TOKEN_PATH": "/proc/self/mem"},
    ],
    ids=str,
)
def test_settings_of_the_client_print_nothing(run_pcsr: Pcsr, hub: Hub, commit: str, variables: dict[str, str]) -> None:
    assert fetch(run_pcsr, **variables).succeeded().stderr == ""


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        (
            {"HTTP_PROXY": "http://me:pass@[::1]:9", "NO_PROXY": ""},
            "cannot be reached through the proxy http://[::1]:9.",
        ),
        ({"HF_ENDPOINT": "http://me:pass@127.0.0.1:9"}, "the Hub (http://127.0.0.1:9) cannot be reached."),
        ({"HF_ENDPOINT": "http://nowhere.invalid"}, "the Hub (http://nowhere.invalid) cannot be reached."),
    ],
    ids=str,
)
def test_a_sentence_has_no_password(run_pcsr: Pcsr, variables: dict[str, str], part: str) -> None:
    ran = fetch(run_pcsr, **variables)
    refused(ran, part)
    assert "pass" not in ran.stderr


def test_a_server_without_tls_is_named(here: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    use_endpoint(monkeypatch, hub.endpoint.replace("http:", "https:"))
    with fails(HubError, "does not open a secure connection."):
        fetch_here()


@pytest.mark.parametrize("token", [None, "hf_wrong", TOKEN])
def test_the_token_is_sent_to_the_hub_only(
    here: Path, hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    hub.repositories[REPO].token = TOKEN
    monkeypatch.setenv("HF_TOKEN", token or "")
    if token == TOKEN:
        fetch_here()
    else:
        with fails(HubError, f"The Hub has no repository {REPO}."):
            fetch_here()
    for request in hub.requests:
        assert request.token == (None if request.path.startswith("/large/") else token)


def test_an_invalid_endpoint_is_an_error(run_pcsr: Pcsr) -> None:
    for arguments in (["models", "fetch", REPO], ["models"]):
        ran = run_pcsr(*arguments, env={"HF_ENDPOINT": "http://127.0.0.1:port"})
        ran.failed(2, "HF_ENDPOINT is 'http://127.0.0.1:port', which is not an http(s) address.")


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


# A hostile Hub. The tests run in this process, so that the limits of time can be short.

SHORT = Bounds(connect=1, stall=0.4, total=0.7)
LIMIT = 3.0
"""Seconds that no fetch with these limits may exceed: ``total`` of two files, and some reserve."""
WEIGHTS = "/large/"


def other_file(request: Request, answer: Answer) -> None:
    """Send other content with headers that fit it."""
    content = b'{"other": 1}' if "config" in request.path else b"\x02\0\0\0\0\0\0\0{}"
    etag = git_sha1(content) if "config" in request.path else hashlib.sha256(content).hexdigest()
    commit = answer.headers.get("X-Repo-Commit", "")
    answer.status, answer.body = 200, [content]
    answer.headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Content-Length": str(len(content))}


def flipped(content: bytes) -> list[bytes]:
    return [content[:-1] + bytes([content[-1] ^ 1])]


def endless(_: bytes) -> Iterator[bytes]:
    return itertools.repeat(bytes(65536))


def bomb(_: bytes) -> Iterator[bytes]:
    return itertools.chain([gzip.compress(bytes(10**7))], itertools.repeat(bytes(65536)))


def resumed(then: Tamper) -> Tamper:
    """Send half of the weights; then change the answer to the request for the rest."""

    def change(request: Request, answer: Answer) -> None:
        (then if request.range else body(lambda content: [content[: len(content) // 2]]))(request, answer)

    return on(WEIGHTS, change)


def bytes_of(content: bytes) -> list[bytes]:
    return [content[i : i + 1] for i in range(len(content))]


def dripping_headers() -> Iterator[bytes]:
    return itertools.chain([b"HTTP/1.1 200 OK\r\n"], slowly(itertools.repeat(b"a: b\r\n"), 0.05))


def whole(_: Request, answer: Answer) -> None:
    answer.status, answer.body = 200, [answer.content]
    answer.headers = {"Content-Length": str(len(answer.content))}


NOT_A_HUB, CANNOT, STOPPED = "is not a Hub.", "Cannot fetch someone/tiny: the Hub", "stopped sending"
LATE = SILENT, SLOW = "does not respond", "sends too slowly"
WRONG = "arrived damaged:"
REFUSED: dict[str, tuple[Tamper, str]] = {
    "status 204": (status(204), NOT_A_HUB),
    "status 304": (status(304), NOT_A_HUB),
    "status 400": (status(400), "error 400"),
    "status 401": (status(401), "refuses the token"),
    "status 403": (status(403), "error 403"),
    "status 404": (status(404), "error 404"),
    "status 416": (on(WEIGHTS, status(416)), "error 416"),
    "status 429": (status(429, Retry_After="86400"), "error 429"),
    "status 500": (status(500), "error 500"),
    "status 503 of weights": (on(WEIGHTS, status(503, Retry_After="86400")), "error 503"),
    "status 999": (status(999), "error 999"),
    "proxy requires a login": (status(407), "the proxy refuses the request"),
    "gated": (status(403, X_Error_Code="GatedRepo"), "is gated."),
    "no repository": (status(404, X_Error_Code="RepoNotFound"), "has no repository"),
    "no revision": (status(404, X_Error_Code="RevisionNotFound"), "has no revision"),
    "no file": (status(404, X_Error_Code="EntryNotFound"), "lacks config.json"),
    "login page": (login_page, NOT_A_HUB),
    "login page for weights": (on("model", login_page), NOT_A_HUB),
    "login page elsewhere": (on("resolve", redirect("http://localhost:{port}/login")), "error 404"),
    "redirects in a circle": (on("resolve", redirect("{path}")), NOT_A_HUB),
    "redirect to a file": (redirect("file:///etc/passwd"), CANNOT),
    "redirect to an invalid address": (redirect("http://["), CANNOT),
    "ETag is a path": (headers(ETag='"/evil.py"'), NOT_A_HUB),
    "ETag is a relative path": (headers(ETag='"../../../evil.py"'), NOT_A_HUB),
    "ETag is a path of weights": (headers(X_Linked_Etag='"../evil.py"'), NOT_A_HUB),
    "ETag is short": (headers(ETag='"abc123"'), NOT_A_HUB),
    "ETag is long": (headers(ETag="0" * 5000), NOT_A_HUB),
    "ETag has capitals": (headers(ETag='"' + "A" * 40 + '"'), NOT_A_HUB),
    "ETag has a prefix": (headers(ETag='W/W/"' + "a" * 40 + '"'), NOT_A_HUB),
    "no ETag": (headers(ETag=None), NOT_A_HUB),
    "ETag of other content": (headers(ETag='"' + "a" * 40 + '"'), WRONG),
    "sha256 of other weights": (headers(X_Linked_Etag='"' + "a" * 64 + '"'), "the sha256 is aaaa"),
    "commit is a path": (headers(X_Repo_Commit="../../../evil"), NOT_A_HUB),
    "other commit": (headers(X_Repo_Commit="b" * 40), "the file comes from the commit bbbb"),
    "no commit": (headers(X_Repo_Commit=None), NOT_A_HUB),
    "other config": (on("config", other_file), WRONG),
    "other weights": (on("model", other_file), "the sha256 is"),
    "config is too long": (on("config", headers(Content_Length=str(2**40))), "instead of at most"),
    "weights are too long": (headers(X_Linked_Size=str(2**40)), "instead of at most"),
    "length is no number": (on("config", headers(Content_Length="-1")), CANNOT),
    "length is too small": (on("config", body(lambda content: [content], Content_Length="10")), "someone/tiny"),
    "length is too large": (on("config", headers(Content_Length="2000")), STOPPED),
    "truncated": (on(WEIGHTS, body(lambda content: [content[:100]])), STOPPED),
    "empty": (on(WEIGHTS, body(lambda content: [], Content_Length="0")), STOPPED),
    "one bit changed": (on(WEIGHTS, body(flipped)), WRONG),
    "endless config": (on("config", body(endless, Content_Length=None)), "the file is larger than it should be"),
    "endless weights": (on(WEIGHTS, body(endless, Content_Length=None)), "the file is larger than it should be"),
    "gzip bomb": (on(WEIGHTS, body(bomb, Content_Length=None, Content_Encoding="gzip")), "the file is larger"),
    "gzip": (on("config", body(lambda content: [gzip.compress(content)], Content_Length=None)), WRONG),
    "silent": (raw(lambda: slowly([b""], 1.0)), SILENT),
    "headers drip": (raw(dripping_headers), SILENT),
    "content drips": (on(WEIGHTS, body(lambda content: slowly(bytes_of(content), 0.05))), SLOW),
    "content stalls": (on(WEIGHTS, body(lambda content: slowly([content[:9], content[9:]], 1.0))), SLOW),
    "reset": (raw(list), "cannot be reached"),
    "not HTTP": (raw(lambda: [b"SSH-2.0-OpenSSH_9.6\r\n"]), "cannot be reached"),
    "endless header": (raw(lambda: itertools.repeat(b"x" * 65536, 100)), "cannot be reached"),
    "continue": (raw(lambda: slowly(itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"), 0.01)), SILENT),
    "resume with other bytes": (resumed(body(flipped)), WRONG),
    "resume at another byte": (resumed(headers(Content_Range="bytes 7-99/100")), "does not continue"),
    "resume with an error": (resumed(status(500)), "error 500"),
    "resume with a page": (resumed(login_page), STOPPED),
}


@pytest.mark.parametrize("behaviour", REFUSED)
def test_a_hostile_hub_leaves_nothing_and_the_true_hub_works_afterwards(
    here: Path, hub: Hub, pinned: HubLocation, true_content: dict[str, bytes], behaviour: str
) -> None:
    hub.tamper, message = REFUSED[behaviour]
    outside = set(here.parent.rglob("*"))
    started = time.perf_counter()
    with fails(HubError, message):
        hub_module.fetch(pinned, REPO, None, SHORT if message in LATE else USUAL)
    assert time.perf_counter() - started < LIMIT
    new = [path for path in here.parent.rglob("*") if path not in outside and path.is_file()]
    assert all(path.read_bytes() in true_content.values() for path in new), new
    assert all(here / "hf" in path.parents for path in new), new
    assert all(request.host.startswith("127") for request in hub.requests if request.token)
    hub.tamper = None
    fetched = hub_module.fetch(pinned, REPO)
    assert fetched.config.read_bytes() == true_content["config.json"]
    assert fetched.weights.read_bytes() == true_content["model.safetensors"]


def test_a_name_server_that_does_not_respond_is_not_waited_for(
    here: Path, pinned: HubLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(2))
    started = time.perf_counter()
    with fails(HubError, "cannot be reached"):
        hub_module.fetch(pinned, REPO, None, Bounds(connect=0.1))
    assert time.perf_counter() - started < 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate")
def test_a_certificate_that_is_not_trusted_is_named(
    here: Path, hub: Hub, pinned: HubLocation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=hub -keyout key -out cert"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    hub.use_tls(tmp_path / "cert", tmp_path / "key")
    use_endpoint(monkeypatch, hub.endpoint.replace("http:", "https:"))
    with fails(HubError, "the certificate of the Hub", "is not accepted (self-signed certificate).", "SSL_CERT_FILE"):
        hub_module.fetch(pinned, REPO)


def test_a_login_page_that_an_older_version_cached_is_removed(
    here: Path, hub: Hub, pinned: HubLocation, true_content: dict[str, bytes]
) -> None:
    repository = Path(constants.HF_HUB_CACHE) / "models--someone--tiny"
    (repository / "snapshots" / pinned.revision).mkdir(parents=True)
    pages = [put(repository / "snapshots" / pinned.revision, name, f"abc{name}", b"<html>") for name in true_content]
    blobs = [page.resolve() for page in pages]
    hub_module.fetch(pinned, REPO)
    assert [page.read_bytes() for page in pages] == list(true_content.values())
    assert not any(blob.exists() for blob in blobs)


@pytest.mark.parametrize("by", ["pcsr", "huggingface_hub"])
def test_the_cache_is_that_of_huggingface_hub(
    here: Path, hub: Hub, commit: str, true_content: dict[str, bytes], by: str
) -> None:
    for revision in ("main", commit):
        if by == "pcsr":
            hub_module.fetch(HubLocation(REPO, revision), REPO)
        for name, content in true_content.items():
            path = hf_hub_download(REPO, name, revision=revision, local_files_only=by == "pcsr")
            assert Path(path).read_bytes() == content
    hub.requests.clear()
    assert not hub_module.fetch(HubLocation(REPO, "main"), REPO).new
    assert hub.paths("GET") == []


def test_a_slow_download_is_announced(here: Path, hub: Hub, pinned: HubLocation) -> None:
    hub.tamper = on(WEIGHTS, body(lambda content: slowly([content[:9], content[9:]], 0.1)))
    messages: list[str] = []
    hub_module.fetch(pinned, REPO, messages.append, Bounds(notice=0.15))
    # On a busy machine, the config may also take longer than the time until the notice.
    assert messages[-1] == "Waiting for model.safetensors of someone/tiny: 9 of 29,672 bytes."


@pytest.mark.parametrize("part", ["config", "model"])
@pytest.mark.parametrize("revision", ["main", "commit"])
def test_files_that_make_no_model_are_not_kept(
    here: Path, hub: Hub, commit: str, true_content: dict[str, bytes], part: str, revision: str
) -> None:
    reference = f"{REPO}@{commit if revision == 'commit' else revision}"
    hub.tamper = on(part, other_file)
    with fails(ModelError):
        find_model(reference, Registry({}), 4)
    hub.tamper = None
    expected = hashlib.sha256(true_content["model.safetensors"]).hexdigest()
    assert find_model(reference, Registry({}), 4).identity.sha256 == expected


ACCEPTED: dict[str, Tamper] = {
    "no length": body(lambda content: [content], Content_Length=None),
    "small pieces": body(lambda content: [content[i : i + 999] for i in range(0, len(content), 999)]),
    "resumed": resumed(lambda request, answer: None),
    "begun anew": resumed(whole),
    "relative redirect": once(redirect("{path}")),
    "redirect to another host": once(redirect("http://localhost:{port}{path}")),
    "reset once": once(raw(list)),
    "damaged once": on(WEIGHTS, once(body(flipped))),
    "stalls once": on(WEIGHTS, once(body(lambda content: slowly([content[:9], content[9:]], 0.7)))),
}


@pytest.mark.parametrize("behaviour", ACCEPTED)
def test_an_unusual_hub_is_accepted(
    here: Path, hub: Hub, pinned: HubLocation, true_content: dict[str, bytes], behaviour: str
) -> None:
    hub.tamper = ACCEPTED[behaviour]
    fetched = hub_module.fetch(pinned, REPO, None, Bounds(stall=0.5))
    assert fetched.weights.read_bytes() == true_content["model.safetensors"]
    assert all(request.host.startswith("127") for request in hub.requests if request.token)


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
