"""Runs on a cluster whose workers, nodes and drivers are killed at random moments: ``python -m tests.jobs.killing``."""

import argparse
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from pcsr_cli.__main__ import main as pcsr
from pcsr_cli.jobs import cluster
from pcsr_cli.jobs.journal import Entry, parse_line, read_lines, segments
from pcsr_cli.jobs.report import Report
from pcsr_cli.jobs.request import Job
from tests.images import levels, save

ROOT = Path(__file__).resolve().parents[2]
BEGUN = "begun"
PAUSE = 0.1
"""The seconds of an image besides its computation, so that a run of small images meets many kills."""


@contextmanager
def made_cluster() -> Iterator[Any]:
    """A cluster of one node with one core, on loopback."""
    # By default, workers have a low priority, and starve beside other tests.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    from ray.cluster_utils import Cluster

    made: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield made
    made.shutdown()


def results(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.png"))}


def entries(folder: Path) -> list[Entry]:
    """The results in the journal, in order of their names, without the information about runs."""
    lines = [parse_line(line) for path in segments(folder) for line, _ in read_lines(path)]
    found = [replace(line, info={}) for line in lines if isinstance(line, Entry)]
    return sorted(found, key=lambda entry: entry.name)


class Noting(cluster.Worker):
    """A worker that notes each image that it begins, and whether the result is in place at that moment."""

    def upscale(self, job: Job) -> tuple[Report | Exception, ...]:
        output = Path(str(job.output))
        with Path(BEGUN).open("a") as notes:
            notes.write(f"{output.name} {output.exists()} {os.getpid()}\n")
        time.sleep(PAUSE)
        return super().upscale(job)


def drive(place: Path, arguments: list[str]) -> None:
    """Run the command ``pcsr`` in a folder, with workers that take notes."""
    os.chdir(place)
    with Path("stderr").open("w") as errors:
        os.dup2(errors.fileno(), 2)
    cluster.Worker = Noting  # type: ignore[misc]
    sys.argv = ["pcsr", *arguments]
    pcsr()


@dataclass
class Survived:
    """What became of a run. ``repeated`` counts the images that were begun again before their results were in place,
    ``recorded`` those of them that had a line in the journal already."""

    seed: int
    workers: int = 0
    nodes: int = 0
    drivers: int = 0
    seconds: float = 0
    repeated: int = 0
    recorded: int = 0


def survive(nodes: Any, place: Path, options: list[str], seed: int) -> Survived:
    """Enlarge ``in`` to ``out`` in ``place`` with killed workers, nodes and drivers, and check the results.

    A worker is killed after each 8 to 24 begun images, so that hardly any image meets three kills. Each driver has
    another number of nodes. The first two drivers are killed, unless they end before. One node is replaced at some
    moment. ``local`` has the expected results."""
    chance = random.Random(seed)
    starter = multiprocessing.get_context("forkserver")
    starter.set_forkserver_preload(["tests.jobs.killing", "pcsr_cli.cli.upscale", "pcsr_cli.jobs.folder", "ray"])
    expected = results(place / "local")
    found = Survived(seed)
    began = time.monotonic()
    replaced_at = chance.uniform(0, 0.9)
    kill_at = chance.randint(1, 24)
    shares = (chance.uniform(0, 0.4), chance.uniform(0.4, 0.8), 2)  # of the results, at which the driver is killed
    for share in shares:
        extra = [*nodes.worker_nodes]
        if not extra or (len(extra) < 2 and chance.random() < 0.5):
            nodes.add_node(num_cpus=1)
        else:
            nodes.remove_node(extra.pop(), allow_graceful=False)
        driver = starter.Process(target=drive, args=(place, ["upscale", "in", "out", *options, "--ray", nodes.address]))
        driver.start()
        while driver.is_alive():
            time.sleep(chance.uniform(0.1, 0.3))
            done = len([*place.glob("out/*.png")]) / len(expected)
            if done >= share:
                driver.kill()
                driver.join()
                found.drivers += 1
            if done >= replaced_at:
                if nodes.worker_nodes:
                    nodes.remove_node(chance.choice([*nodes.worker_nodes]), allow_graceful=False)
                nodes.add_node(num_cpus=1)
                replaced_at = 2
                found.nodes += 1
            if (begun := len(_notes(place))) >= kill_at:
                found.workers += _kill_worker(place, chance)
                kill_at = begun + chance.randint(8, 24)
        assert driver.exitcode in {0, -9}, (place / "stderr").read_text()  # a fast driver ends before it is killed
    found.seconds = time.monotonic() - began
    notes, lines = _notes(place), entries(place / "out")
    found.repeated, found.recorded = len(notes) - len(expected), len(lines) - len(expected)
    assert results(place / "out") == expected
    assert {there for _, there, _ in notes} == {"False"}, "an image was computed again after its result was in place"
    assert [entry for entry, _ in groupby(lines)] == entries(place / "local")
    assert Counter(entry.name for entry in lines) <= Counter(name for name, _, _ in notes)
    return found


def _notes(place: Path) -> list[list[str]]:
    """Return the result of each begun image, whether it was in place, and the process."""
    with suppress(FileNotFoundError):
        return [line.split() for line in (place / BEGUN).read_text().splitlines()]
    return []


def _kill_worker(place: Path, chance: random.Random) -> bool:
    """Kill a worker that has begun an image. Return whether there was one."""
    workers = {process.pid for process in psutil.Process().children(recursive=True)}
    working = sorted(workers & {int(pid) for _, _, pid in _notes(place)})
    with suppress(IndexError, ProcessLookupError):
        os.kill(chance.choice(working), signal.SIGKILL)
        return True
    return False


def make_folder(place: Path, images: int, options: list[str]) -> None:
    """Make small images in ``in``, and enlarge them to ``local`` without a cluster."""
    (place / "in").mkdir()
    for number in range(images):
        save(place / "in" / f"{number:03}.png", levels(24 + number % 40, 48, seed=number))
    command = [sys.executable, "-m", "pcsr_cli", "upscale", "in", "local", *options]
    subprocess.run(command, cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)


def main() -> None:
    """Make a number of runs and print what became of each."""
    parser = argparse.ArgumentParser(prog="python -m tests.jobs.killing", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--images", type=int, default=200)
    asked = parser.parse_args()
    options = ["--model", "builtin"]
    os.environ["OMP_NUM_THREADS"] = "1"
    with TemporaryDirectory() as folder, made_cluster() as nodes:
        place = Path(folder)
        make_folder(place, asked.images, options)
        for seed in range(asked.runs):
            own = place / f"{seed}"
            own.mkdir()
            for name in ("in", "local"):
                (own / name).symlink_to(place / name)
            print(survive(nodes, own, options, seed), flush=True)  # noqa: T201


if __name__ == "__main__":
    from tests.jobs import killing  # under this name, Ray's workers can import it

    killing.main()
