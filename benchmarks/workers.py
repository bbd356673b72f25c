"""``python -m benchmarks.workers``: compares two Ray workers of one thread with one, on this machine.

Runs with one worker and with two alternate, on a cluster of a head and one node for each worker. The rate of a run
counts from the first report after all workers are ready and a warm-up, to the last report. The start of Ray and of the
workers is left out.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from PIL import Image
from rich.console import Console

from pcsr_cli.api import load_model
from pcsr_cli.jobs.cluster import run_on_cluster
from pcsr_cli.jobs.find import Task
from pcsr_cli.jobs.folder import FolderRun, Outcome
from pcsr_cli.jobs.report import Report
from pcsr_cli.jobs.request import Request

ROOT = Path(__file__).resolve().parent.parent
WARM_UP = 8
"""The reports that are left out after all workers are ready."""


def cut_images(folder: Path, count: int, side: int) -> list[Task]:
    """Save square crops of the example photograph."""
    tasks = []
    with Image.open(ROOT / "examples" / "chelsea.png") as photograph:
        for number in range(count):
            left, top = number * 37 % (photograph.width - side), number * 23 % (photograph.height - side)
            name = Path(f"{number:04}.png")
            photograph.crop((left, top, left + side, top + side)).save(folder / name)
            tasks.append(Task(folder / name, name, name))
    return tasks


def measure(tasks: list[Task], folder: Path, address: str, workers: int) -> float:
    """Enlarge the images on a cluster that has ``workers`` workers, and return the images per second."""
    times: list[float] = []
    ready = 0

    def report(task: Task, outcome: Outcome) -> None:
        assert isinstance(outcome, Report), outcome
        if ready == workers:
            times.append(time.perf_counter())

    def progress(size: int) -> None:
        nonlocal ready
        ready = size

    run = FolderRun(folder, tasks, load_model("builtin"), Request(scale=4, refine=1), report=report, has_workers=True)
    with run:
        run_on_cluster(run, address, "cpu", progress=progress)
    return (len(times) - WARM_UP - 1) / (times[-1] - times[WARM_UP])


def main() -> None:
    """Print the rates of one and of two workers, and the efficiency of two."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    console = Console()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as place:
        tasks = cut_images(Path(place), asked.images, 128)
        for number in range(asked.rounds):
            for workers, found in rates.items():
                second = cluster.add_node(num_cpus=1) if workers == 2 else None
                found.append(measure(tasks, Path(place) / f"{number}-{workers}", cluster.address, workers))
                if second is not None:
                    cluster.remove_node(second)
                load = os.getloadavg()[0]
                console.print(f"{workers} worker{'s' * (workers > 1)}: {found[-1]:.2f} images/s, load {load:.1f}")
    cluster.shutdown()  # type: ignore[no-untyped-call]
    one, two = (statistics.median(found) for found in rates.values())
    console.print(f"efficiency of two workers: {two / one / 2:.3f}")


if __name__ == "__main__":
    main()
