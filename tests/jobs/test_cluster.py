"""Folder runs on a Ray cluster: the same results as a local run, whatever ends meanwhile."""

import errno
import os
import pickle
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pcsr_cli.api import load_model
from pcsr_cli.engine.rules import Threshold
from pcsr_cli.errors import ClusterError, InputError, OutputError, UsageError
from pcsr_cli.jobs import cluster
from pcsr_cli.jobs.cluster import Worker, WorkerSetup, Workforce, check_address, connected, make_setup, run_on_cluster
from pcsr_cli.jobs.find import Task
from pcsr_cli.jobs.folder import FolderRun, Outcome, disk_is_full
from pcsr_cli.jobs.report import Report
from pcsr_cli.jobs.request import Job, Request
from pcsr_cli.model.registry import LoadedModel
from tests.failing import fails
from tests.images import levels, save
from tests.jobs.killing import entries, made_cluster, make_folder, results, survive

REQUEST = Request(scale=2, routing=Threshold(0.5), refine=0)


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder))


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of three nodes with one core each, on loopback."""
    pytest.importorskip("ray", reason="Ray is not installed")
    with made_cluster() as made:
        for _ in range(2):
            made.add_node(num_cpus=1)
        yield made


@pytest.fixture
def tasks(tmp_path: Path) -> list[Task]:
    made = []
    (tmp_path / "in").mkdir()
    names = ["a\nb", os.fsdecode(b"\xff"), "x" * 251, *(f"{number:02}" for number in range(9))]
    for number, name in enumerate(names):
        source = save(tmp_path / "in" / f"{name}.png", levels(9 + number, 12))
        made.append(Task(source, Path(source.name), Path(source.name)))
    return made


Outcomes = dict[str, Outcome]
MakeRun = Callable[..., tuple[FolderRun, Outcomes]]


@pytest.fixture
def make_run(tmp_path: Path, tasks: list[Task], model: LoadedModel) -> MakeRun:
    def make(name: str, **more: Any) -> tuple[FolderRun, Outcomes]:
        outcomes: Outcomes = {}

        def report(task: Task, outcome: Outcome) -> None:
            outcomes[task.output.name] = outcome

        return FolderRun(tmp_path / name, tasks, model, REQUEST, report=report, **more), outcomes

    return make


@pytest.fixture
def local(make_run: MakeRun, tmp_path: Path) -> dict[str, bytes]:
    """The results of a run without a cluster."""
    run, _ = make_run("local")
    with run:
        run.run()
    return results(tmp_path / "local")


@pytest.mark.ray
def test_three_nodes_make_the_results_of_a_local_run(
    nodes: Any, make_run: MakeRun, tmp_path: Path, local: dict[str, bytes]
) -> None:
    run, outcomes = make_run("out", has_workers=True)
    seen: list[int] = []
    with run:
        run_on_cluster(run, nodes.address, progress=seen.append)
    assert results(tmp_path / "out") == local
    assert all(isinstance(outcome, Report) for outcome in outcomes.values()) and len(outcomes) == len(local)
    assert entries(tmp_path / "out") == entries(tmp_path / "local")
    assert 1 <= max(seen) <= 3
    again, outcomes = make_run("out")  # a local run continues where the cluster ended
    with again:
        again.run()
    assert set(outcomes.values()) == {"done before"}


class Dangerous(Worker):
    """A worker that dies of one image, and ends once after it finished another."""

    def upscale(self, job: Job) -> tuple[Report | Exception, ...]:
        if job.path.name == "03.png":
            os._exit(1)
        found = super().upscale(job)
        if job.path.name == "05.png":
            os._exit(1)
        return found


@pytest.mark.ray
def test_the_images_of_a_worker_that_ends_go_to_others(
    nodes: Any, make_run: MakeRun, tmp_path: Path, local: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "Worker", Dangerous)
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.5)
    monkeypatch.setattr(cluster, "MAX_ATTEMPTS", 2)
    run, outcomes = make_run("out", has_workers=True)
    with run:
        run_on_cluster(run, nodes.address)
    failed = outcomes.pop("03.png")
    assert isinstance(failed, InputError) and "2 workers ended" in failed.sentence
    assert outcomes.pop("05.png") == "done before"
    assert all(isinstance(outcome, Report) or outcome == "done before" for outcome in outcomes.values())
    del local["03.png"]
    assert results(tmp_path / "out") == local
    assert [entry.name for entry in entries(tmp_path / "out")] == [*local]


@pytest.mark.ray
@pytest.mark.slow
def test_workers_nodes_and_drivers_that_end_lose_and_repeat_nothing(
    nodes: Any, tmp_path: Path, tiny_folder: Path
) -> None:
    options = ["--model", str(tiny_folder)]
    make_folder(tmp_path, 60, options)
    found = survive(nodes, tmp_path, options, seed=7)
    assert found.drivers and found.nodes and found.workers


@pytest.mark.ray
def test_a_node_without_room_for_a_worker(nodes: Any, make_run: MakeRun) -> None:
    run, _ = make_run("out", has_workers=True)
    with run, fails(ClusterError, "No node of the cluster has 4000 cores"):
        run_on_cluster(run, nodes.address, threads=4000)


@pytest.mark.ray
def test_workers_of_another_version_end_the_run(nodes: Any, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.5)
    make = cluster.make_setup
    monkeypatch.setattr(cluster, "make_setup", lambda *given: replace(make(*given), version="0.0"))
    run, _ = make_run("out", has_workers=True)
    with run, fails(ClusterError, "the driver 0.0"):
        run_on_cluster(run, nodes.address)


@dataclass(eq=False)
class Reference:
    """A call of an actor of ``InstantRay``. ``result`` is its value or its error."""

    result: Any


class InstantRay:
    """The part of Ray that a workforce uses. Calls end at once, except that the workers of ``lost`` jobs end."""

    exceptions = SimpleNamespace(RayError=ConnectionError)

    def __init__(self, workers: int, lost: set[Job]) -> None:
        self.workers, self.lost, self.waits = workers, lost, 0

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": self.workers}}]

    def put(self, setup: object) -> object:
        return setup

    def remote(self, worker: object) -> Any:
        return SimpleNamespace(options=lambda **needs: SimpleNamespace(remote=self.start))

    def start(self) -> Any:
        dead: list[bool] = []

        def upscale(job: Job) -> Reference:
            if job in self.lost:
                dead.append(True)
            return Reference(ConnectionError("lost") if dead else (InputError(str(job.source)),))

        calls = {"prepare": lambda setup: Reference(None), "upscale": upscale}
        return SimpleNamespace(**{name: SimpleNamespace(remote=call) for name, call in calls.items()})

    def wait(
        self, references: list[Reference], num_returns: int = 1, timeout: float = 0
    ) -> tuple[list[Reference], list[Reference]]:
        self.waits += 1
        return references[:num_returns], references[num_returns:]

    def get(self, reference: Reference) -> Any:
        if isinstance(reference.result, ConnectionError):
            raise reference.result
        return reference.result

    def kill(self, actor: object) -> None:
        pass


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_a_round_takes_all_reports_that_are_ready(monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
    jobs = [Job(Path(f"{number}.png"), Path("out")) for number in range(1000)]
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0)
    ray = InstantRay(50, set(jobs[100 : 100 + lost]))
    monkeypatch.setitem(sys.modules, "ray", ray)
    setup: Any = SimpleNamespace(threads=1, device="cpu")
    counts: list[int] = []
    results = list(Workforce(setup, lambda job: False, counts.append).execute(iter(jobs), 2))
    assert Counter(job for job, _ in results) == Counter(jobs)
    ended = {job for job, result in results if "workers ended" in str(result)}
    assert ended == ray.lost
    assert ray.waits < 2 * (1000 / 100 + 2 + 3 * lost + 1) and max(counts) == 50


@pytest.mark.ray
def test_a_cluster_with_another_version_of_ray(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.__version__", "2.1.0")
    with fails(ClusterError, "this machine has Ray 2.1.0 ", "the same versions"), connected(nodes.address):
        pass


@pytest.fixture
def setup(make_run: MakeRun) -> Iterator[WorkerSetup]:
    threads, place = torch.get_num_threads(), Path.cwd()
    yield make_setup(make_run("out")[0], "cpu", 1)
    torch.set_num_threads(threads)
    os.chdir(place)


def test_a_worker_returns_the_causes_of_an_error(setup: WorkerSetup, tmp_path: Path, tasks: list[Task]) -> None:
    worker = Worker()
    worker.prepare(pickle.loads(pickle.dumps(setup)))
    output = tmp_path / "out" / "new.png"
    output.parent.mkdir()
    missing, report = (worker.upscale(Job(source, output)) for source in (Path("no"), tasks[0].source))
    assert isinstance(missing[0], InputError) and isinstance(report[0], Report)


def test_a_full_disk_is_recognised_after_its_way_through_a_cluster() -> None:
    error = OutputError("full")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    sent = [pickle.loads(pickle.dumps(cluster._portable(one))) for one in (error, error.__cause__)]
    sent[0].__cause__ = sent[1]
    assert disk_is_full(sent[0])


def test_an_error_that_cannot_be_sent_keeps_its_sentence() -> None:
    class LocalError(Exception):
        pass

    assert str(cluster._portable(LocalError("bad"))) == "LocalError: bad"


def test_a_worker_without_the_folder_of_the_run(setup: WorkerSetup, tmp_path: Path) -> None:
    with fails(ClusterError, "cannot open", "that all nodes share"):
        Worker().prepare(replace(setup, directory=tmp_path / "missing"))


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with fails(UsageError, "Ray is not installed", "pip install ray"):
        check_address("auto")


@pytest.mark.ray
@pytest.mark.parametrize(
    "address", ["here", "ray://host:10001", "host:", ":1", "host:99999", "host:port", "http://a:1"]
)
def test_invalid_addresses(address: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with fails(UsageError, "Invalid address"):
        check_address(address)


@pytest.mark.ray
def test_an_address_where_nothing_answers() -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        began = time.monotonic()
        with fails(ClusterError, "No Ray cluster answers"):
            check_address(f"127.0.0.1:{taken.getsockname()[1]}")
    assert time.monotonic() - began < 10
