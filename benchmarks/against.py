"""``--against CHECKOUT``: times this checkout and another one alternately, each in its own process.

The processes use only the public interface of pcsr, which checkouts of different ages share.
"""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.timing import timed

HERE = Path(__file__).resolve().parent.parent
CASES = {"x4": (4, "Threshold"), "x4, ADM": (4, "Adaptive"), **{f"x{s}": (s, "Threshold") for s in (3, 3.3, 2.5, 2)}}
"""Scale and routing of each row."""

WORKER = """
import json, os, sys, time, pcsr_cli
if not pcsr_cli.__file__.startswith(os.path.join(os.getcwd(), "")):
    sys.exit(f"{os.getcwd()} is not a checkout of pcsr.")
import numpy, torch
from PIL import Image
image, model = numpy.asarray(Image.open(sys.argv[1]).convert("RGB")), pcsr_cli.load_model(sys.argv[2])
torch.set_num_threads(int(sys.argv[3]))
for line in sys.stdin:
    scale, routing = json.loads(line)
    seconds, busy = time.perf_counter(), time.process_time()
    pcsr_cli.upscale(image, model, scale, routing=getattr(pcsr_cli, routing)())
    print(time.perf_counter() - seconds, time.process_time() - busy, flush=True)
"""

Rows = dict[str, dict[str, float]]


def compare(other: Path, model: str, image: Path, threads: int, runs: int) -> Rows:
    """Medians of wall and processor time of this checkout, and their ratios to the ``other``, for each of CASES."""
    rows: Rows = {}
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(each, model, image, threads)) for each in (HERE, other)]
        for name, case in CASES.items():
            taken = [[_run(worker, case) for worker in workers] for _ in range(runs + 1)][1:]  # the first is a warm-up
            rows[name] = {}
            for kind, label in enumerate(("seconds", "processor seconds")):
                ours, theirs = (timed([each[which][kind] for each in taken]) for which in (0, 1))
                rows[name][label] = ours.median
                rows[name][f"ratio of {label}"] = ours.median / theirs.median
                rows[name]["of the fastest" if kind == 0 else "of the least"] = ours.fastest / theirs.fastest
    return rows


def _worker(checkout: Path, model: str, image: Path, threads: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WORKER, str(image.resolve()), model, str(threads)]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=checkout, env=environment, stdin=pipe, stdout=pipe, text=True)


def _run(worker: "subprocess.Popen[str]", case: tuple[float, str]) -> tuple[float, float]:
    """Wall and processor seconds of one upscale."""
    assert worker.stdin is not None and worker.stdout is not None
    print(json.dumps(case), file=worker.stdin, flush=True)
    line = worker.stdout.readline()
    if not line:
        raise SystemExit("A checkout failed. Its message is above.")
    seconds, busy = map(float, line.split())
    return seconds, busy
