"""``python -m benchmarks.long_run``: the memory and the open files of one run over many small images, as a curve."""

import argparse
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import matplotlib.pyplot as plt
import psutil
from rich.console import Console

from benchmarks.workers import ROOT, cut_images

Sample = tuple[int, float, int]
"""The number of results, the memory of the process in MiB, and its open files."""


def sample(images: int, seconds: float) -> list[Sample]:
    """Run ``pcsr upscale`` over new images on one thread, and sample it every few seconds."""
    samples: list[Sample] = []
    console = Console()
    with tempfile.TemporaryDirectory() as place:
        source, output = Path(place) / "in", Path(place) / "out"
        source.mkdir()
        cut_images(source, images, 64)
        options = ["--model", "builtin", "--threads", "1", "--quiet"]
        run = psutil.Popen([sys.executable, "-m", "pcsr_cli", "upscale", source, output, *options], cwd=ROOT)
        while run.poll() is None:
            time.sleep(seconds)
            with suppress(psutil.Error, FileNotFoundError):  # the run has just ended or just begun
                found = len([*output.glob("*.png")]), run.memory_info().rss / 2**20, run.num_fds()
                if found[0] and found[1]:
                    samples.append(found)
                    console.print(f"{time.strftime('%T')} {found[0]:,} results, {found[1]:.1f} MiB, {found[2]} files")
        assert run.returncode == 0 and len([*output.glob("*.png")]) == images
    return samples


def draw(samples: list[Sample], file: Path) -> None:
    """Draw the curves over the number of results."""
    plt.rcParams["svg.fonttype"] = "none"
    results, memory, files = zip(*samples, strict=True)
    figure, (above, below) = plt.subplots(2, sharex=True, figsize=(7, 4), height_ratios=(2, 1))
    above.plot(results, memory)
    above.set(ylabel="memory, MiB", ylim=(0, 1.2 * max(memory)))
    below.plot(results, files)
    below.set(ylabel="open files", xlabel="results", ylim=(0, 1.2 * max(files)))
    figure.tight_layout()
    figure.savefig(file)


def main() -> None:
    """Run, print the samples and draw docs/long-run.svg."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_run", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="between two samples")
    asked = parser.parse_args()
    draw(sample(asked.images, asked.seconds), ROOT / "docs" / "long-run.svg")


if __name__ == "__main__":
    main()
