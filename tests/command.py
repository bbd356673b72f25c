"""Runs the ``pcsr`` command as a user does: in its own process, in an empty folder, without a Hub."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.spec import Scales
from tests.hub_server import Hub
from tests.tiny import tiny_model

ROOT = Path(__file__).resolve().parent.parent
UNREACHABLE = "http://127.0.0.1:9"
"""An endpoint without a server."""

KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "COVERAGE_PROCESS_START")


@dataclass(frozen=True)
class Ran:
    """The exit code and the output of a command."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """stdout as JSON."""
        return json.loads(self.stdout)

    def succeeded(self) -> "Ran":
        assert self.code == 0, self.stderr
        return self

    def failed(self, code: int, *parts: str) -> "Ran":
        """Check that it failed with one line on stderr that contains the parts, and nothing on stdout."""
        assert self.code == code, f"exit code {self.code}: {self.stderr}"
        assert self.stdout == ""
        assert self.stderr.startswith("pcsr: ")
        assert self.stderr.endswith((".\n", ")\n")), f"not a sentence: {self.stderr}"
        assert self.stderr.count("\n") == 1, f"more than one line: {self.stderr}"
        assert "Traceback" not in self.stderr
        assert "Internal error" not in self.stderr
        for part in parts:
            assert part in self.stderr
        return self


@dataclass(frozen=True)
class Conditions:
    """Limits in bytes that simulate a full disk and a full memory (beyond what the process has at its start), a signal
    to send after a number of seconds, and a stdout that is full or closed."""

    max_file_size: int | None = None
    max_memory: int | None = None
    signalled: tuple[float, int] | None = None
    stdout_is: Literal["full", "closed"] | None = None


class ForkServer:
    """A client of ``tests/forkserver.py``."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, arguments: list[str], env: Mapping[str, str], cwd: Path, scratch: Path, conditions: Conditions
    ) -> Ran:
        process = self._started()
        outputs = {name: str(scratch / name) for name in ("stdout", "stderr")}
        request = {"arguments": arguments, "env": dict(env), "cwd": str(cwd), **asdict(conditions), **outputs}
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        code = int(process.stdout.readline())
        return Ran(code, *(Path(path).read_text(encoding="utf-8") for path in outputs.values()))

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate(timeout=30)

    def _started(self) -> "subprocess.Popen[str]":
        if self._process is None:
            command = [sys.executable, "-m", "tests.forkserver"]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._process = subprocess.Popen(command, cwd=ROOT, text=True, encoding="utf-8", **pipes)
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "ready\n"
        return self._process


@dataclass
class Pcsr:
    """Runs ``pcsr`` in the folder ``cwd`` with the environment ``env``."""

    server: ForkServer
    cwd: Path
    scratch: Path
    env: dict[str, str] = field(default_factory=dict)

    def __call__(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        max_file_size: int | None = None,
        max_memory: int | None = None,
        signalled: tuple[float, int] | None = None,
        stdout_is: Literal["full", "closed"] | None = None,
    ) -> Ran:
        """Run a command in a fork of an interpreter that has imported torch. See ``Conditions``."""
        texts = [str(argument) for argument in arguments]
        if not hasattr(os, "fork"):
            return self.in_new_interpreter(*texts, env=env)
        conditions = Conditions(max_file_size, max_memory, signalled, stdout_is)
        return self.server.run(texts, {**self.env, **(env or {})}, self.cwd, self.scratch, conditions)

    def in_new_interpreter(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        python: tuple[str, ...] = (),
        timeout: float = 200,
    ) -> Ran:
        """Run ``python -m pcsr_cli`` in a new interpreter with the options ``python``. This is slower than a fork."""
        done = subprocess.run(
            [sys.executable, *python, "-m", "pcsr_cli", *map(str, arguments)],
            cwd=self.cwd,
            env={**self.env, **(env or {})},
            capture_output=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def on_terminal(self, *arguments: str | Path) -> str:
        """Run a command with stderr on a terminal of 80 x 30 characters, and return what it prints there."""
        master, terminal = os.openpty()
        command = [sys.executable, "-m", "pcsr_cli", *map(str, arguments)]
        env = {**self.env, "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "80", "LINES": "30"}
        with subprocess.Popen(command, cwd=self.cwd, env=env, stdout=subprocess.DEVNULL, stderr=terminal) as process:
            os.close(terminal)
            text = read_terminal(master).decode()
            assert process.wait() == 0, text
        return text

    def files(self) -> list[str]:
        """All files and folders in the folder."""
        return sorted(str(path.relative_to(self.cwd)) for path in self.cwd.rglob("*"))


def read_terminal(master: int) -> bytes:
    """Read a terminal until its other end is closed, and close it."""
    text = b""
    # On Linux, reading fails when the other end is closed.
    with contextlib.suppress(OSError):
        while piece := os.read(master, 65536):
            text += piece
    os.close(master)
    return text


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def run_pcsr(fork_server: ForkServer, tmp_path: Path) -> Pcsr:
    """The command in an empty folder, with an empty cache and without a Hub."""
    cwd, scratch, home = tmp_path / "work", tmp_path / "scratch", tmp_path / "home"
    for folder in (cwd, scratch, home):
        folder.mkdir()
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    env |= {"HOME": str(home), "HF_HOME": str(home / "hf"), "HF_ENDPOINT": UNREACHABLE, "PYTHONPATH": str(ROOT)}
    env |= {"OMP_NUM_THREADS": "1", "NO_PROXY": "*"}
    return Pcsr(fork_server, cwd, scratch, env)


@pytest.fixture
def hub(run_pcsr: Pcsr) -> Iterator[Hub]:
    """A Hub without models that ``run_pcsr`` uses."""
    server = Hub()
    run_pcsr.env["HF_ENDPOINT"] = server.endpoint
    yield server
    server.close()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small FSRCNN-PCSR for x4 with random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_folder(tiny_model("fsrcnn"), Scales((4.0,)), folder)
    return folder
