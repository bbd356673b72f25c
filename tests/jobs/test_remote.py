"""Folder runs from and into a store: the results of a local run, each made once, whatever fails meanwhile."""

import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pcsr_cli.api import load_model
from pcsr_cli.engine.rules import Threshold
from pcsr_cli.errors import InputError, RefusedOutputError, StoreError
from pcsr_cli.images import objects
from pcsr_cli.images.objects import to_path
from pcsr_cli.jobs import find, folder
from pcsr_cli.jobs import journal as journal_module
from pcsr_cli.jobs.cluster import Worker, make_setup
from pcsr_cli.jobs.find import Listing, Shard, Task
from pcsr_cli.jobs.folder import FolderRun, Outcome
from pcsr_cli.jobs.journal import Entry, parse_line
from pcsr_cli.jobs.report import Report
from pcsr_cli.jobs.request import Job, Request
from pcsr_cli.jobs.status import Status
from pcsr_cli.model.registry import LoadedModel
from tests.failing import fails
from tests.images import levels, save
from tests.s3_server import Bucket

COUNT = 3
NAMES = [f"sub/{number}.png" for number in range(COUNT)]
REQUEST = Request(scale=2, routing=Threshold(0.5), refine=0)


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder))


@pytest.fixture
def images(tmp_path: Path, bucket: Bucket) -> Path:
    """The same images in a folder and in the bucket."""
    for number, name in enumerate(NAMES):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        bucket.put(f"in/{name}", save(tmp_path / "in" / name, levels(8 + number, 9)).read_bytes())
    return tmp_path / "in"


Run = Callable[..., dict[str, Outcome]]


@pytest.fixture
def upscale(model: LoadedModel, bucket: Bucket) -> Run:
    """Upscales ``source`` to ``target``, in the bucket by default, and returns what became of each image."""

    def run(source: object = "", target: object = "", request: Request = REQUEST, **more: Any) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        source, target = to_path(str(source or f"{bucket.url}/in")), to_path(str(target or f"{bucket.url}/out"))
        tasks = Listing([source], [".png"], recursive=True, skip=target)
        with FolderRun(
            target,
            tasks,
            model,
            request,
            report=lambda task, outcome: outcomes.update({task.path.as_posix(): outcome}),
            **more,
        ) as started:
            started.run()
        assert tasks.unread == []
        return outcomes

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def results(bucket: Bucket, below: str = "out/") -> dict[str, bytes]:
    return {key: bucket.read(below + key) for key in bucket.keys(below, ".png")}


def entries(bucket: Bucket) -> list[Entry]:
    """All results in the journal."""
    segments = [bucket.read(key) for key in bucket.keys(suffix=".jsonl")]
    return [entry for text in segments for line in text.splitlines() if isinstance(entry := parse_line(line), Entry)]


def test_results_are_those_of_a_local_run_from_and_into_a_store(
    upscale: Run, images: Path, tmp_path: Path, bucket: Bucket
) -> None:
    upscale(images, tmp_path / "local")
    for target in ("", tmp_path / "from"):
        assert {type(outcome) for outcome in upscale(target=target).values()} == {Report}
    local = files(tmp_path / "local")
    assert set(local) == set(NAMES)
    assert results(bucket) == files(tmp_path / "from") == local
    hidden = [key for key in bucket.keys("out/.pcsr/") if not key.startswith("journal/")]
    assert hidden == [], "claims are removed"


def test_a_run_resumes_without_reading_images_and_results_again(upscale: Run, images: Path, bucket: Bucket) -> None:
    upscale()
    bucket.remove(f"out/{NAMES[1]}")
    bucket.server.requests.clear()
    outcomes = upscale()
    assert [name for name, outcome in outcomes.items() if outcome != "done before"] == [NAMES[1]]
    read = [path for method, path in bucket.server.requests if method == "GET" and path.endswith(".png")]
    assert read == [f"/{bucket.name}/in/{NAMES[1]}"]


def test_other_images_and_options_are_refused(upscale: Run, images: Path, bucket: Bucket) -> None:
    upscale()
    with fails(RefusedOutputError, f"{bucket.url}/out/sub/0.png already exists and was made with other options"):
        upscale(request=Request(scale=3, routing=Threshold(0.5), refine=0))
    bucket.put(f"in/{NAMES[0]}", bucket.read(f"in/{NAMES[1]}"))
    with fails(RefusedOutputError, "was made from another image"):
        upscale()
    bucket.put(f"in/{NAMES[0]}", (images / NAMES[0]).read_bytes())
    bucket.put(f"out/{NAMES[0]}", bucket.read(f"out/{NAMES[1]}"))
    with fails(RefusedOutputError, "was changed since"):
        upscale()


def test_a_result_with_an_unknown_etag_is_recognised_by_its_content(
    upscale: Run, images: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "etag_of", lambda file: "encrypted")
    upscale()
    assert set(upscale().values()) == {"done before"}


def test_a_request_is_repeated_after_an_error_of_the_server(upscale: Run, images: Path, bucket: Bucket) -> None:
    failed: list[tuple[str, str]] = []

    def fault(method: str, path: str) -> int | None:
        if method in {"GET", "PUT"} and path.endswith("1.png") and (method, path) not in failed:
            failed.append((method, path))
            return 500
        return None

    bucket.server.fault = fault
    assert {type(outcome) for outcome in upscale().values()} == {Report}
    assert len(failed) == 2
    assert [bucket.server.count(*request) for request in failed] == [2, 2]
    assert len(entries(bucket)) == COUNT


def test_an_image_that_must_not_be_read_fails_alone(upscale: Run, images: Path, bucket: Bucket) -> None:
    bucket.server.fault = lambda method, path: 403 if method == "GET" and path.endswith("2.png") else None
    outcomes = upscale()
    error = outcomes.pop(NAMES[2])
    assert isinstance(error, InputError)
    assert error.sentence == f"{bucket.url}/in/sub/2.png cannot be used: access is denied (A fault of the test)."
    assert {type(outcome) for outcome in outcomes.values()} == {Report}


def test_a_store_that_must_not_be_written_stops_the_run_before_any_work(
    upscale: Run, images: Path, bucket: Bucket
) -> None:
    bucket.server.fault = lambda method, path: 403 if method == "PUT" else None
    with fails(StoreError, "cannot be used: access is denied (A fault of the test)"):
        upscale()
    assert bucket.keys("out/") == []
    assert bucket.server.count("GET", ".png") == 0, "no image is read"


def test_a_result_that_cannot_be_put_is_absent_and_made_by_the_next_run(
    upscale: Run, images: Path, bucket: Bucket
) -> None:
    bucket.server.fault = lambda method, path: 403 if method == "PUT" and path.endswith("out/sub/1.png") else None
    assert isinstance(upscale()[NAMES[1]], StoreError)
    assert set(results(bucket)) == {*NAMES} - {NAMES[1]}
    status = Status(to_path(f"{bucket.url}/out"))
    assert (status.done, status.failed) == (COUNT - 1, 1)
    bucket.server.fault = lambda method, path: None
    outcomes = upscale()
    assert [name for name, outcome in outcomes.items() if isinstance(outcome, Report)] == [NAMES[1]]


def test_a_truncated_upload_is_not_visible(bucket: Bucket) -> None:
    with socket.create_connection(("127.0.0.1", int(bucket.server.endpoint.rpartition(":")[2]))) as connection:
        connection.sendall(
            f"PUT /{bucket.name}/out/a.png HTTP/1.1\r\nHost: s3\r\nContent-Length: 99\r\n\r\nabc".encode()
        )
    assert bucket.keys() == []


def test_a_run_that_is_killed_during_an_upload_leaves_nothing_half_and_is_resumed(
    upscale: Run, images: Path, tmp_path: Path, tiny_folder: Path, bucket: Bucket
) -> None:
    began = threading.Event()

    def fault(method: str, path: str) -> int | None:
        if method == "PUT" and path.endswith("out/sub/1.png"):
            began.set()
            threading.Event().wait(5)
        return None

    bucket.server.fault = fault
    options = f"--model {tiny_folder} --scale 2 --threshold 0.5 --refine 0 -r --quiet --name {{stem}}{{suffix}}"
    command = [sys.executable, "-m", "pcsr_cli", "upscale", f"{bucket.url}/in", f"{bucket.url}/out", *options.split()]
    with subprocess.Popen(command) as killed:
        assert began.wait(60)
        killed.kill()
    bucket.server.fault = lambda method, path: None
    recorded, done = {entry.name for entry in entries(bucket)}, results(bucket)
    assert NAMES[1] in recorded, "before it is put"
    assert NAMES[1] not in done
    outcomes = upscale()
    assert {name for name, outcome in outcomes.items() if outcome == "done before"} == set(done)
    upscale(images, tmp_path / "local")
    assert results(bucket) == files(tmp_path / "local")
    assert bucket.keys("out/.pcsr/claims/") == []


def test_two_runs_at_once_do_not_put_a_result_twice(
    upscale: Run, images: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "WAIT_SECONDS", 0.05)
    outcomes: list[dict[str, Outcome]] = []
    runs = [threading.Thread(target=lambda: outcomes.append(upscale())) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [bucket.server.count("PUT", f"out/{name}") for name in NAMES] == [1] * COUNT
    made = [name for one in outcomes for name, outcome in one.items() if isinstance(outcome, Report)]
    assert sorted(made) == NAMES
    assert sorted(entry.name for entry in entries(bucket)) == NAMES


def test_shards_make_the_results_of_one_run(upscale: Run, images: Path, tmp_path: Path, bucket: Bucket) -> None:
    upscale(images, tmp_path / "local")
    parts = [upscale(shard=Shard(number, 2)) for number in (2, 1)]
    assert sorted(name for part in parts for name in part) == NAMES
    assert results(bucket) == files(tmp_path / "local")
    bucket.server.requests.clear()
    assert all(set(upscale(shard=Shard(number, 3)).values()) <= {"done before"} for number in (1, 2, 3))
    assert bucket.server.count("PUT", ".png") == 0


def test_the_first_result_is_put_before_all_objects_are_listed(
    upscale: Run, images: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((objects, "PAGE"), (find, "CHUNK"), (folder, "CHUNK")):
        monkeypatch.setattr(module, name, 1)
    upscale()
    pages = [n for n, (method, path) in enumerate(bucket.server.requests) if "prefix=in%2F" in path]
    put = [n for n, (method, path) in enumerate(bucket.server.requests) if (method, path[-4:]) == ("PUT", ".png")]
    assert len(pages) == COUNT + 1
    assert put[0] < pages[-1]


def test_a_worker_of_a_cluster_gets_a_job_with_urls(
    images: Path, tmp_path: Path, model: LoadedModel, upscale: Run, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source, out = to_path(f"{bucket.url}/in/{NAMES[0]}"), to_path(f"{bucket.url}/out")
    run = FolderRun(out, [Task(source, Path("0.png"), Path("0.png"))], model, REQUEST, report=lambda *_: None)
    worker = Worker()
    worker.prepare(pickle.loads(pickle.dumps(make_setup(run, "cpu", 1))))
    (result,) = worker.upscale(pickle.loads(pickle.dumps(Job(source, out / "0.png"))))
    assert isinstance(result, Report)
    upscale(images, tmp_path / "local")
    assert bucket.read("out/0.png") == (tmp_path / "local" / NAMES[0]).read_bytes()
    assert [entry.name for entry in entries(bucket)] == ["0.png"]


def test_the_journal_of_a_run_is_spread_over_small_objects(
    upscale: Run, images: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MAX_LINES", 2)
    upscale()
    assert [key[-12:] for key in bucket.keys(suffix=".jsonl")] == ["000001.jsonl", "000002.jsonl"]
    status = Status(to_path(f"{bucket.url}/out"))
    assert [run.done for run in status.runs] == [COUNT]
    assert set(upscale().values()) == {"done before"}


@pytest.mark.parametrize("key", ["in//a.png", "in/../../a.png", "in/./a.png"])
def test_a_key_that_is_not_a_path_is_an_error(bucket: Bucket, key: str) -> None:
    bucket.put(key, b"")
    listing = Listing([to_path(f"{bucket.url}/in")], [".png"], recursive=True)
    assert list(listing) == []
    assert "is not a path" in str(listing.unread[0][1])


def test_a_listed_url_outside_the_folder_is_an_error(bucket: Bucket) -> None:
    names = [to_path(f"{bucket.url}/in/../a.png")]
    with fails(InputError, f"{bucket.url}/in/../a.png is not in {bucket.url}/in."):
        list(Listing([to_path(f"{bucket.url}/in")], [".png"], names=names))


def test_results_in_memory(upscale: Run, images: Path, tmp_path: Path) -> None:
    upscale(images, "memory://test/out")
    upscale(images, tmp_path / "local")
    out = to_path("memory://test/out")
    assert {name: (out / name).read_bytes() for name in NAMES} == files(tmp_path / "local")
    assert set(upscale(images, "memory://test/out").values()) == {"done before"}
