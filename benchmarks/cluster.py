"""``python -m benchmarks.cluster``: simulates runs of many images on many workers, with Ray or with shards.

A worker takes a batch of images at a time. The batches shrink towards the end, where single images count. The
time of an image has a gamma distribution, because the sum of a batch then has one too. All workers wait for one
shared step of each image: with Ray it is the work of the driver, with shards that of the shared folder.
"""

import argparse
import heapq
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

BATCHES = 16
"""A batch is this part of a worker's share of the remaining images."""

IMAGES = (1_000_000, 100_000_000)
WORKERS = (1, 10, 100, 300, 1000)


@dataclass(frozen=True)
class Costs:
    """Seconds of the steps of a run, and other figures. docs/cluster.md names their sources.

    ``image`` is the mean time of one image on one worker, and ``spread`` its standard deviation as a part of it.
    ``driver`` is the time of the driver for an image, with ``driver_worker`` more for each worker. ``folder`` is the
    time for which an image occupies the shared folder. With shards, ``listed`` is the time of each run for each image
    of all parts, ``read`` that for a line of the journal after a restart, and ``skipped`` that for a finished image of
    its part. ``lifetime`` is the mean time until a worker is lost, ``start`` the time until it, or another in its
    place, works. ``line`` is the size of a line of the journal in bytes, ``memory`` that of the driver, with at most
    ``memory_image`` for each image."""

    image: float = 0.34
    spread: float = 0.15
    driver: float = 1 / 1370 + 320e-6
    driver_worker: float = 0.14e-6
    folder: float = 1 / 1000
    listed: float = 32e-6
    read: float = 16e-6
    skipped: float = 0.9e-3
    lifetime: float = 24 * 3600.0
    start: float = 60.0
    line: float = 770.0
    memory: float = 246 * 2.0**20
    memory_image: float = 3.6 * 2.0**20 / 95_000


@dataclass(frozen=True)
class Simulated:
    """A simulated run. ``seconds`` is its wall time, ``computed`` the sum of the times of its images.

    ``segments`` is the number of files of the journal. The sizes are in bytes. ``memory`` is the most of the driver."""

    images: int
    workers: int
    seconds: float
    computed: float
    segments: int
    journal: float
    memory: float

    @property
    def efficiency(self) -> float:
        """The part of the time of all workers in which they compute images that are kept."""
        return self.computed / (self.seconds * self.workers)


def shared_seconds(costs: Costs, workers: int, shards: bool) -> float:
    """Return the seconds of the shared step of each image, which no two images have at the same time."""
    return costs.folder if shards else max(costs.folder, costs.driver + costs.driver_worker * workers)


def most_workers(costs: Costs, shards: bool) -> int:
    """Return the number of workers from which the shared step takes all the time."""
    workers = 1
    while workers * shared_seconds(costs, workers, shards) < costs.image:
        workers += 1
    return workers


def simulate(images: int, workers: int, shards: bool, costs: Costs, seed: int = 0) -> Simulated:
    """Simulate a run. With ``shards`` each worker has a random part of the images, otherwise all take from one list."""
    random = np.random.default_rng(seed)
    parts = random.multinomial(images, [1 / workers] * workers) if shards else np.array([images])
    left, own = parts.tolist(), parts.tolist()
    shared = shared_seconds(costs, workers, shards)
    shape = 1 / costs.spread**2
    free = [(costs.start, worker) for worker in range(workers)]
    server = computed = 0.0
    ends, segments, done = [], workers, 0
    while free:
        now, worker = heapq.heappop(free)
        part = worker if shards else 0
        if not left[part]:
            ends.append(now)
            continue
        batch = max(1, left[part] // (BATCHES if shards else BATCHES * workers))
        work = random.gamma(shape * batch, costs.image / shape)
        busy = work + batch * costs.listed * images / own[part] if shards else work
        losses = int(random.poisson(busy / costs.lifetime))
        busy += losses * (costs.start + random.random() * costs.image)
        if shards:
            busy += losses * (done * (costs.read + costs.listed) + (own[part] - left[part]) * costs.skipped)
        server = max(server, now) + batch * shared
        left[part] -= batch
        done, computed, segments = done + batch, computed + work, segments + losses
        heapq.heappush(free, (max(now + busy, server), worker))
    return Simulated(
        images=images,
        workers=workers,
        seconds=max(ends),
        computed=computed,
        segments=segments,
        journal=images * costs.line,
        memory=costs.memory + images * costs.memory_image,
    )


def main() -> None:
    """Print the tables of simulated runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--image", type=float, default=Costs.image, help="seconds of an image on one worker")
    asked = parser.parse_args()
    costs = Costs(image=asked.image)
    columns = ("millions", "workers", "hours", "efficiency", "images/s", "segments", "MiB each", "RAM, MiB")
    console = Console()
    for shards, name in ((False, "Ray"), (True, "Shards")):
        table = Table(
            title=f"{name}: the shared step is always busy from {most_workers(costs, shards)} workers",
            box=None,
            pad_edge=False,
        )
        for column in columns:
            table.add_column(column, justify="right")
        for images in IMAGES:
            for workers in WORKERS:
                run = simulate(images, workers, shards, costs, asked.seed)
                table.add_row(
                    f"{images / 1e6:g}",
                    f"{workers:,}",
                    f"{run.seconds / 3600:,.1f}",
                    f"{run.efficiency:.2f}",
                    f"{images / run.seconds:,.1f}",
                    f"{run.segments:,}",
                    f"{run.journal / run.segments / 2**20:,.1f}",
                    f"{run.memory / 2**20:,.0f}",
                )
        console.print(table)


if __name__ == "__main__":
    main()
