"""The ``pcsr`` command as a user runs it: in a process of its own, in an empty folder, with a Hub that is not there."""

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
NOWHERE = "http://127.0.0.1:9"
"""An endpoint where nothing answers."""

KEPT = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "COVERAGE_PROCESS_START")


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code, and what it said."""

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

    def told(self, code: int, *words: str) -> "Ran":
        """Check that it failed as it should: one line on stderr with these words in it, nothing on stdout."""
        assert self.code == code, f"exit code {self.code}: {self.stderr}"
        assert self.stdout == ""
        assert self.stderr.startswith("pcsr: ")
        assert self.stderr.endswith((".\n", ")\n")), f"no sentence: {self.stderr}"
        assert self.stderr.count("\n") == 1, f"more than a line: {self.stderr}"
        assert "Traceback" not in self.stderr
        assert "Internal error" not in self.stderr
        for word in words:
            assert word in self.stderr
        return self


@dataclass(frozen=True)
class Circumstances:
    """What a command runs under: limits in bytes that play a full disk and a full memory (beside what it has at the
    start), a signal that it gets after so many seconds, and a stdout that is full or closed."""

    largest_file: int | None = None
    most_memory: int | None = None
    signalled: tuple[float, int] | None = None
    stdout_is: Literal["full", "closed"] | None = None


class ForkServer:
    """The program in ``tests/forkserver.py``, and how to ask it; without fork(), a new interpreter for each command."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, arguments: list[str], env: Mapping[str, str], cwd: Path, scratch: Path, circumstances: Circumstances
    ) -> Ran:
        process = self._started()
        said = {name: str(scratch / name) for name in ("stdout", "stderr")}
        request = {"arguments": arguments, "env": dict(env), "cwd": str(cwd), **asdict(circumstances), **said}
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        code = int(process.stdout.readline())
        return Ran(code, *(Path(path).read_text(encoding="utf-8") for path in said.values()))

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate(timeout=30)

    def _started(self) -> "subprocess.Popen[str]":
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forkserver"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "ready\n"
        return self._process


@dataclass
class Pcsr:
    """Runs ``pcsr`` with an environment of its own, changed by ``env``; relative paths are in ``cwd``."""

    server: ForkServer
    cwd: Path
    scratch: Path
    env: dict[str, str] = field(default_factory=dict)

    def __call__(
        self,
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        largest_file: int | None = None,
        most_memory: int | None = None,
        signalled: tuple[float, int] | None = None,
        stdout_is: Literal["full", "closed"] | None = None,
    ) -> Ran:
        """Run a command, in a fork of an interpreter that has imported torch; see ``Circumstances``."""
        told = [str(argument) for argument in arguments]
        if not hasattr(os, "fork"):
            return self.in_new_interpreter(*told, env=env)
        circumstances = Circumstances(largest_file, most_memory, signalled, stdout_is)
        return self.server.run(told, {**self.env, **(env or {})}, self.cwd, self.scratch, circumstances)

    def in_new_interpreter(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None, python: tuple[str, ...] = ()
    ) -> Ran:
        """Run ``python -m pcsr_cli`` in a new interpreter, with options for it: slow, and the whole truth."""
        done = subprocess.run(
            [sys.executable, *python, "-m", "pcsr_cli", *map(str, arguments)],
            cwd=self.cwd,
            env={**self.env, **(env or {})},
            capture_output=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            timeout=200,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def files(self) -> list[str]:
        """All that is in the folder."""
        return sorted(str(path.relative_to(self.cwd)) for path in self.cwd.rglob("*"))


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def run_pcsr(fork_server: ForkServer, tmp_path: Path) -> Pcsr:
    """The command, in an empty folder, with nothing cached and no Hub to ask."""
    cwd, scratch, home = tmp_path / "work", tmp_path / "scratch", tmp_path / "home"
    for folder in (cwd, scratch, home):
        folder.mkdir()
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    env |= {"HOME": str(home), "HF_HOME": str(home / "hf"), "HF_ENDPOINT": NOWHERE, "PYTHONPATH": str(ROOT)}
    env |= {"OMP_NUM_THREADS": "1", "NO_PROXY": "*"}
    return Pcsr(fork_server, cwd, scratch, env)


@pytest.fixture
def hub(run_pcsr: Pcsr) -> Iterator[Hub]:
    """A Hub that ``run_pcsr`` asks; it has nothing yet."""
    server = Hub()
    run_pcsr.env["HF_ENDPOINT"] = server.endpoint
    yield server
    server.close()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random FSRCNN-PCSR for x4, small enough to run in no time."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_folder(tiny_model("fsrcnn"), Scales((4.0,)), folder)
    return folder
