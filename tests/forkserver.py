"""Runs ``pcsr`` in a fork of this process for each request, so that torch is imported only once.

A request is one line of JSON on stdin. The child sets its folder, environment, streams and limits, and runs the command
as ``python -m pcsr_cli`` does. Modules that read the environment when they are imported, such as the client of the Hub,
are not imported before the fork.
"""

import contextlib
import gc
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

SLOW = ["torch", "fast_pytorch_kmeans", "safetensors.torch", "PIL.Image", "numpy", "typer", "rich.progress"]
SLOW += ["rich.panel", "rich.table", "PIL.ImageOps", "tqdm.auto", "filelock", "yaml", "fsspec"]
SLOW += ["pcsr_cli.cli.main", "pcsr_cli.model.checkpoint", "pcsr_cli.engine.upscale", "pcsr_cli.images.animation"]
OPTIONAL = ["typer._adapters", "typer.rich_utils", "httpx", "httpx2"]
TIMEOUT = 120
"""Seconds."""


def main() -> None:
    """Run requests until stdin ends."""
    for name in SLOW:
        importlib.import_module(name)
    for name in OPTIONAL:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)
    gc.freeze()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(request)
        if request["signalled"] is not None:
            _signal_after(child, *request["signalled"])
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _signal_after(child: int, seconds: float, number: int) -> None:
    """Send a signal after a number of seconds if the child still runs. It is not reaped before, so its number is not
    reused."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.005)
    os.kill(child, number)


def _run(request: dict[str, Any]) -> None:
    """Run the command and exit."""
    import resource
    import signal

    signal.alarm(TIMEOUT)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # New streams: those of this process have their own buffers and encodings.
    encoding = request["env"].get("PYTHONIOENCODING", "utf-8")
    sys.stdout = os.fdopen(1, "w", encoding=encoding, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    if request["stdout_is"] == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    if request["stdout_is"] == "closed":
        os.close(1)
        sys.stdout = None
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    if request["max_file_size"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["max_file_size"], request["max_file_size"]))
    if request["max_memory"] is not None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + request["max_memory"],) * 2)
    sys.argv = ["pcsr", *request["arguments"]]
    code: object = 70
    try:
        from pcsr_cli.cli.main import main as pcsr

        pcsr()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
