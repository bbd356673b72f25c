"""Upscale the images of a folder run on the workers of a Ray cluster.

The driver hands out paths and receives reports. Each worker is a Ray actor with the models in memory. It reads an
image, computes and writes the result, and adds it to its own segment of the journal. No image passes through Ray.
"""

import copy
import importlib.util
import os
import pickle
import re
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pcsr_cli
from pcsr_cli.errors import ClusterError, InputError, PcsrError, RefusedOutputError, UsageError

if TYPE_CHECKING:  # these modules import torch, and a wrong address is found without it
    from pcsr_cli.images.source import SourceKind
    from pcsr_cli.jobs.folder import FolderRun
    from pcsr_cli.jobs.report import Report
    from pcsr_cli.jobs.request import Job, Request
    from pcsr_cli.model.registry import LoadedModel

LOCAL = "local"
"""The address that starts a cluster on this machine for one run."""

RUNNING = "auto"
"""The address of the cluster that runs on this machine."""

MAX_ATTEMPTS = 3
"""An image during which this many workers ended fails."""

MAX_FAILED_STARTS = 10
"""The run fails if this many workers in a row end while they start, and there are no others."""

HELD = 2
"""The images that one worker holds: one is computed, one waits."""

LOOK_SECONDS = 3.0
"""The time between two comparisons of the workers with the nodes of the cluster."""

CONNECT_SECONDS = 5.0


def run_on_cluster(
    run: "FolderRun",
    address: str = LOCAL,
    device: str = "auto",
    threads: int = 1,
    fail_fast: bool = False,
    progress: "Callable[[int], None]" = lambda workers: None,
) -> None:
    """Upscale the images of a run on a Ray cluster, with one worker for each GPU, or for each ``threads`` cores.

    ``address`` is HOST:PORT, ``RUNNING`` or ``LOCAL``. ``progress`` is called with the number of workers, about every
    second and after each image. Raises UsageError, ClusterError, OutputError, and the errors of loading the models."""
    with connected(address):
        run.run(HELD, fail_fast, Workforce(make_setup(run, device, threads), run.is_done, progress).execute)


def check_address(address: str) -> None:
    """Raise UsageError if Ray is not installed or the address is invalid, ClusterError if nothing answers there."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError("Ray is not installed.", "Install it: pip install ray.")
    if address in {LOCAL, RUNNING}:
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"Invalid address '{address}' of a Ray cluster.", f"Use HOST:PORT, or {RUNNING}.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"No Ray cluster answers at {address}: {error.strerror or error}.", "Check the address, and `ray status`."
        ) from error


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to a Ray cluster. For ``LOCAL``, start one on this machine and stop it at the end.

    Raises UsageError, ClusterError."""
    check_address(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    more: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
    if address == LOCAL:
        more["include_dashboard"] = False
    try:
        try:
            ray.init(address, **more)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise _unusable(error) from error
        yield
    finally:
        ray.shutdown()


def _unusable(error: Exception) -> ClusterError:
    """Return the ClusterError for an error of connecting to Ray."""
    if len(versions := re.findall(r"(?:Ray|Python): (\S+)", str(error))) == 4:
        return ClusterError(
            "The cluster has Ray {} with Python {}, this machine has Ray {} with Python {}.".format(*versions),
            "Install the same versions on all machines.",
        )
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return ClusterError(f"The Ray cluster cannot be used: {reason}.", "Check `ray status`.")


@dataclass(frozen=True)
class WorkerSetup:
    """All that a worker needs. The paths of jobs are relative to ``directory``. ``run`` is the id of the run."""

    version: str
    directory: Path
    folder: Path
    run: str
    request: "Request"
    models: "tuple[LoadedModel, ...]"
    kind: "SourceKind | None"
    device: str
    threads: int


def make_setup(run: "FolderRun", device: str, threads: int) -> WorkerSetup:
    """Return the setup of the workers of a run, with copies of its models on the CPU. Raises the errors of loading."""
    choice = run.upscaler.models
    models = tuple(replace(model, network=copy.deepcopy(model.network).to("cpu")) for model in choice.load_all())
    return WorkerSetup(
        version=pcsr_cli.__version__,
        directory=Path.cwd(),
        folder=run.folder,
        run=run.info.id,
        request=run.upscaler.request,
        models=models,
        kind=choice.kind,
        device=device,
        threads=threads,
    )


class Worker:
    """Upscales images in a process of its own."""

    def prepare(self, setup: WorkerSetup) -> None:
        """Load the models. Raises ClusterError for another version of pcsr, or if a folder does not exist here."""
        import torch

        from pcsr_cli.engine.device import resolve_device
        from pcsr_cli.engine.memory import limit_kernel_caches
        from pcsr_cli.jobs.choice import ModelChoice
        from pcsr_cli.jobs.claims import describe_run
        from pcsr_cli.jobs.folder import Recorder
        from pcsr_cli.jobs.journal import Segment
        from pcsr_cli.jobs.upscale_file import Upscaler

        if setup.version != pcsr_cli.__version__:
            raise ClusterError(
                f"{socket.gethostname()} has pcsr {pcsr_cli.__version__}, the driver {setup.version}.",
                "Install the same version on all nodes.",
            )
        try:
            os.chdir(setup.directory)
        except OSError as error:
            raise ClusterError(
                f"{socket.gethostname()} cannot open {setup.directory}: {error.strerror}.",
                "Run in a folder that all nodes share.",
            ) from error
        limit_kernel_caches()
        torch.set_num_threads(setup.threads)
        device = resolve_device(setup.device)
        models = [replace(model, network=model.network.to(device)) for model in setup.models]
        choice = ModelChoice(lambda lossy: models[lossy], by_source=len(models) > 1, kind=setup.kind)
        segment = Segment(setup.folder, describe_run())
        record = Recorder(setup.folder, segment, setup.run, setup.request, setup.kind)
        self._upscaler = Upscaler(choice, setup.request, record=record)

    def upscale(self, job: "Job") -> "tuple[Report | Exception, ...]":
        """Return the report of a job, or its error with the causes of the error."""
        from pcsr_cli.jobs.pipeline import overlapped
        from pcsr_cli.jobs.report import Report

        with closing(overlapped([job], self._upscaler, 0)) as line:
            ((_, result),) = line
        found: list[Report | Exception] = [result]
        while isinstance(cause := found[-1].__cause__ if isinstance(found[-1], Exception) else None, Exception):
            found.append(cause)
        return tuple(one if isinstance(one, Report) else _portable(one) for one in found)


def _portable(error: Exception) -> Exception:
    """Return an error that can be sent to another process."""
    error.__traceback__ = None
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@dataclass(eq=False)
class _Member:
    """A worker of the cluster. ``ready`` is the reference to its preparation, None when that is done."""

    actor: Any
    ready: Any
    held: "dict[Any, Job]" = field(default_factory=dict)


class Workforce:
    """The workers of a run: one for each GPU of the cluster, or without GPUs for each ``threads`` cores."""

    def __init__(self, setup: WorkerSetup, is_done: "Callable[[Job], bool]", progress: "Callable[[int], None]") -> None:
        """``is_done`` returns whether the result of a job is in the journal. Raises ClusterError without room for a
        worker."""
        import ray

        self._ray: Any = ray
        self._setup = ray.put(setup)
        self._actor: Any = ray.remote(Worker)
        self._cpus, self._gpus, self._is_done = setup.threads, setup.device != "cpu", is_done
        self._progress = progress
        self._members: list[_Member] = []
        self._again: deque[Job] = deque()
        self._attempts: Counter[Job] = Counter()
        self._looked = -LOOK_SECONDS
        self._failed_starts = 0
        if not self._room()[0]:
            raise ClusterError(
                f"No node of the cluster has {setup.threads} cores for a worker.", "Use fewer cores per worker."
            )

    @property
    def size(self) -> int:
        """The number of workers that are ready."""
        return sum(member.ready is None for member in self._members)

    def execute(self, jobs: "Iterator[Job]", ahead: int) -> "Generator[tuple[Job, Report | Exception], None, None]":
        """Run jobs as ``jobs.folder.Execute`` describes.

        If ``ahead`` is not 0, each worker is given up to HELD jobs. If it is 0, one job runs at a time.

        A job whose worker ends goes to another worker. Raises ClusterError if no worker can be started."""
        while True:
            self._hire()
            ended = False
            for member in self._places(ahead):
                job = self._again.popleft() if self._again else next(jobs, None)
                if job is None:
                    ended = True
                    break
                member.held[member.actor.upscale.remote(job)] = job
            if ended and not any(member.held for member in self._members):
                return
            yield from self._wait()
            self._progress(self.size)

    def _places(self, ahead: int) -> Iterator[_Member]:
        """Yield the worker for each further job, until all workers hold enough."""
        ready = [member for member in self._members if member.ready is None]
        if not ahead:
            yield from () if any(member.held for member in ready) else ready[:1]
            return
        for held in range(HELD):
            yield from (member for member in ready if len(member.held) == held)

    def _room(self) -> tuple[int, bool]:
        """Return for how many workers the cluster has room, and whether they use GPUs."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if self._gpus and (gpus := sum(int(node.get("GPU", 0)) for node in nodes)):
            return gpus, True
        return sum(int(node.get("CPU", 0)) // self._cpus for node in nodes), False

    def _hire(self) -> None:
        """Start workers for new nodes, and replace workers that ended."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        room, with_gpu = self._room()
        for _ in range(room - len(self._members)):
            needs: dict[str, int] = {"num_gpus": 1, "num_cpus": 0} if with_gpu else {"num_cpus": self._cpus}
            actor = self._actor.options(**needs).remote()
            self._members.append(_Member(actor, actor.prepare.remote(self._setup)))

    def _wait(self) -> "Iterator[tuple[Job, Report | Exception]]":
        """Wait for a moment, and yield the jobs that ended. Raises ClusterError."""
        references = {
            reference: member
            for member in self._members
            for reference in ([*member.held] if member.ready is None else [member.ready])
        }
        if not references:
            time.sleep(LOOK_SECONDS / 10)
            return
        done, others = self._ray.wait([*references], timeout=LOOK_SECONDS / 3)
        if done and others:  # the more workers report meanwhile, the less this round costs for each
            done += self._ray.wait(others, num_returns=len(others), timeout=0)[0]
        for reference in done:
            member = references[reference]
            if reference is not member.ready and reference not in member.held:  # the worker was lost with all its jobs
                continue
            try:
                found = self._ray.get(reference)
            except (self._ray.exceptions.RayError, PcsrError) as error:
                yield from self._lose(member, error)
                continue
            if member.ready is not None:
                member.ready, self._failed_starts = None, 0
                continue
            job = member.held.pop(reference)
            for one, cause in pairwise(found):
                one.__cause__ = cause
            self._attempts.pop(job, None)
            yield job, found[0]

    def _lose(self, member: _Member, error: Exception) -> "Iterator[tuple[Job, Report | Exception]]":
        """Remove a worker that ended, and take back its jobs. Yield the jobs that are done or were tried too often."""
        self._members.remove(member)
        self._ray.kill(member.actor)
        if member.ready is not None:
            self._failed_starts += 1
            reason = getattr(error, "cause", error)
            if isinstance(reason, PcsrError) and not self.size:
                raise reason
            if self._failed_starts >= MAX_FAILED_STARTS and not self.size:
                raise ClusterError(f"No worker can be started: {str(error).splitlines()[0]}", "Check `ray status`.")
        held, member.held = [*member.held.values()], {}
        began = False
        for job in held:
            if self._is_done(job):  # only the report is lost
                yield job, RefusedOutputError(f"{job.output} was finished by a worker that ended.")
                continue
            self._attempts[job] += not began  # the first job that is not done was being computed
            began = True
            if self._attempts[job] < MAX_ATTEMPTS:
                self._again.append(job)
                continue
            del self._attempts[job]
            sentence = f"{job.source} is not tried again: {MAX_ATTEMPTS} workers ended while they worked on it."
            yield job, InputError(sentence, "The image may need too much memory.")
