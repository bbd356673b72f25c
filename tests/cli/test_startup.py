"""Help, version and the list of models are fast; the script and ``python -m pcsr_cli`` are the same."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pcsr_cli
from pcsr_cli.cli import main
from tests.command import Pcsr
from tests.images import levels, save

QUICK = 2.2
"""The most CPU time, as a multiple of the CPU time of ``EMPTY --help``. Where this test was written, it is 0.3 s."""

COMMANDS = [["--version"], ["--help"], ["upscale", "--help"], ["models", "--help"], ["models"]]

PCSR = """
    from pcsr_cli.cli.main import main
    main()
"""

EMPTY = """
    import typer
    def main(name: str) -> None:
        pass
    typer.run(main)
"""

# Runs a program, then prints on stderr the seconds of CPU and whether torch was imported.
PROBE = """
import resource, sys
sys.argv[0] = "pcsr"
try:
{program}
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(used.ru_utime + used.ru_stime, "torch" in sys.modules, file=sys.stderr)
"""


def probe(run_pcsr: Pcsr, program: str, arguments: list[str]) -> float:
    """Return the seconds of CPU of a program that does not import torch."""
    command = [sys.executable, "-c", PROBE.format(program=program), *arguments]
    done = subprocess.run(command, env=run_pcsr.env, cwd=run_pcsr.cwd, capture_output=True, text=True, check=False)
    seconds, torch_imported = done.stderr.split()[-2:]
    assert torch_imported == "False"
    return float(seconds)


def assert_quick(run_pcsr: Pcsr, arguments: list[str]) -> None:
    """Compare with the empty program up to eight times, since other programs run beside the tests."""
    tried = []
    for _ in range(8):
        tried.append(probe(run_pcsr, PCSR, arguments) / probe(run_pcsr, EMPTY, ["--help"]))
        if tried[-1] < QUICK:
            return
    pytest.fail(f"took {min(tried):.1f} times the CPU time of an empty program at best")


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_help_version_and_list_are_fast(run_pcsr: Pcsr, arguments: list[str]) -> None:
    assert_quick(run_pcsr, arguments)


MISTAKES = """
upscale missing.png
in.png taken.png
in.png --nonsense
in.png x.png --threshold 7
in.png x.png --device nonsense
in.png x.png --budget 12x
in.png x.png --map m.jpg
in.png x.png --map taken.png
in.png x.png --fit 3x
in.png x.png --k 900
in.png x.png --refine 12
in.png x.png --model nonsense
in.png x.png --quality 50
in.png x.png --tile 0
in.png x.png --memory 3x
in.png x.doc
in.png --adm --k 1
in.png x.png --strength 3
missing/*.png out
folder out.png
folder results --name {x}
plan missing.png
plan in.png --tile 0
plan in.png --scale 0.3
plan in.png --threshold 7
plan in.png x.docx
plan in.png --nonsense
bench missing
bench folder --nonsense
bench folder --methods bad
bench folder --csv taken.png
bench folder --budget 12x
bench folder --model nonsense
sweep missing.png
sweep in.png --threshold 0:9:0
sweep in.png --csv taken.png
sweep in.png --plot x.doc
report taken.png in.png
report page.html in.png
report out.txt in.png
report out.html missing.png
compare in.png
compare in.png missing.png
compare in.png in.png
compare in.png taken.png -o page.html
compare in.png taken.png -o taken.png -y
compare in.png taken.png -o x.doc
compare in.png taken.png --scale 2
compare in.png -m nonsense
compare in.png -m builtin --device nonsense
verify missing.png
verify in.png --tile 3
verify in.png --scale 0.2
verify in.png --device nonsense
train missing.toml
train in.toml --device nonsense
train in.toml --nonsense
models show nonsense
models convert missing.pth out
models convert in.png taken
models fetch nonsense
export builtin taken.png
export nonsense x.onnx
status nowhere
status folder
status folder --failed --json
doctor --nonsense
""".strip().splitlines()
"""A wrong path, an invalid option or an existing output, for every command."""

MISTAKES_WITH_NUMPY = [
    "in.png x.png --background nonsense",
    "in.png x.png --source clean --model builtin",
    "bench folder --degrade bad",
    "train in.toml",
]

IN_ONE_PROCESS = """
import contextlib, io, sys
from pcsr_cli.cli import main
light, other = (text.splitlines() for text in sys.argv[1:])
for line in (*light, *other):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main.run(line.split())
    names = ("torch", "numpy", "PIL", "huggingface_hub") if line in light else ("torch", "huggingface_hub")
    heavy = [name for name in names if name in sys.modules]
    if heavy or code not in (1, 2) or said.getvalue().count("\\n") != 1:
        sys.exit(f"{line}: {code}, {heavy}, {said.getvalue()}")
"""


def mistaken(folder: Path) -> None:
    """Create the files that MISTAKES mentions."""
    for name in ("in.png", "taken.png", "folder/a.png", "taken/config.json", "page.html", "in.toml"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def test_mistakes_are_found_without_the_modules_that_compute(run_pcsr: Pcsr) -> None:
    mistaken(run_pcsr.cwd)
    command = [sys.executable, "-c", IN_ONE_PROCESS, "\n".join(MISTAKES), "\n".join(MISTAKES_WITH_NUMPY)]
    done = subprocess.run(command, env=run_pcsr.env, cwd=run_pcsr.cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    commands = {command.name for command in main.app.registered_commands} | {"models"}
    assert {line.split()[0] for line in MISTAKES} >= commands


@pytest.mark.parametrize("arguments", ["missing.png", "in.png taken.png", "bench folder --csv taken.png"])
def test_a_mistake_is_found_quickly(run_pcsr: Pcsr, arguments: str) -> None:
    mistaken(run_pcsr.cwd)
    assert_quick(run_pcsr, arguments.split())


UNUSED = """
filelock fsspec httpx2 huggingface_hub jinja2 matplotlib numpy.ma numpy.random onnx pcsr_cli.evaluate.html.previews
pcsr_cli.jobs.folder pcsr_cli.jobs.journal pcsr_cli.training pyvips rich.console rich_pixels simplejpeg skimage
"""


@pytest.mark.slow
def test_one_image_imports_only_what_it_uses(run_pcsr: Pcsr) -> None:
    save(run_pcsr.cwd / "in.png", levels(4, 4))
    code = "import sys\nfrom pcsr_cli.cli.main import run\n"
    code += "assert run(['in.png', '--model', 'builtin']) == 0\nprint(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=run_pcsr.env, cwd=run_pcsr.cwd, capture_output=True, text=True, check=True)
    assert "torch" in done.stdout.split()
    assert set(UNUSED.split()).isdisjoint(done.stdout.split())


@pytest.mark.parametrize(
    ("running", "processors", "busy"),
    [(1, 2, False), (2, 2, True), (4, 2, True), (4, 8, False), (5, 8, True), (2, None, True)],
)
def test_waiting_threads_leave_a_busy_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: int, processors: int | None, busy: bool
) -> None:
    statistics = tmp_path / "stat"
    statistics.write_text(f"cpu  1 2 3\nprocesses 900\nprocs_running {running}\nprocs_blocked 9\n")
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    monkeypatch.setattr(main, "STATISTICS", statistics)
    monkeypatch.setattr(os, "environ", {})
    main.prepare_threads()
    assert os.environ == ({"OMP_WAIT_POLICY": "PASSIVE"} if busy else {})


@pytest.mark.parametrize("chosen", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_the_users_own_choice_for_waiting_threads_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    (tmp_path / "stat").write_text("procs_running 99\n")
    monkeypatch.setattr(main, "STATISTICS", tmp_path / "stat")
    monkeypatch.setattr(os, "environ", {chosen: "7"})
    main.prepare_threads()
    assert os.environ == {chosen: "7"}


@pytest.mark.parametrize("text", [None, "", "procs_running many\n"])
def test_a_system_that_does_not_count_running_threads_is_not_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "stat").write_text(text)
    monkeypatch.setattr(main, "STATISTICS", tmp_path / "stat")
    monkeypatch.setattr(os, "environ", {})
    main.prepare_threads()
    assert not os.environ


def test_the_version_goes_to_stdout(run_pcsr: Pcsr) -> None:
    ran = run_pcsr.in_new_interpreter("--version").succeeded()
    assert (ran.stdout, ran.stderr) == (f"pcsr {pcsr_cli.__version__}\n", "")


def test_the_installed_script_and_the_module_print_the_same_help(run_pcsr: Pcsr) -> None:
    script = shutil.which("pcsr", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("pcsr is not installed as a script")
    done = subprocess.run([script, "--help"], env=run_pcsr.env, capture_output=True, text=True, check=True)
    assert done.stdout == run_pcsr.in_new_interpreter("--help").succeeded().stdout


def test_a_bare_command_shows_its_help(run_pcsr: Pcsr) -> None:
    ran = run_pcsr()
    assert ran.code == 2
    assert ran.stdout == ""
    assert ran.stderr == run_pcsr("--help").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["upscale"],
        ["upscale", "in.png", "out.png", "--nonsense"],
        ["upscale", "in.png", "out.png", "--k"],
        ["models", "nonsense"],
        ["models", "show"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_points_to_the_help(run_pcsr: Pcsr, arguments: list[str]) -> None:
    run_pcsr(*arguments).failed(2, "--help`")
    assert run_pcsr.files() == []


def test_an_unknown_command_gets_a_suggestion(run_pcsr: Pcsr) -> None:
    assert "Did you mean 'upscale'? See `pcsr --help`." in run_pcsr("upscal").stderr


def test_an_interruption_at_the_start_has_no_traceback(run_pcsr: Pcsr) -> None:
    code = "import os, signal\nfrom pcsr_cli.cli.main import main\nfrom pcsr_cli.cli import options\n"
    code += "options.load_registry = lambda own: os.kill(os.getpid(), signal.SIGINT)\nmain()\n"
    command = [sys.executable, "-c", code, "models"]
    done = subprocess.run(command, env=run_pcsr.env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "pcsr: interrupted; no half-written file was left.\n")


@pytest.mark.skipif(sys.platform == "win32", reason="a current folder cannot be removed")
def test_a_removed_current_folder_is_an_error(run_pcsr: Pcsr) -> None:
    command = f"mkdir gone && cd gone && rmdir ../gone && {sys.executable} -m pcsr_cli models"
    done = subprocess.run(
        command, shell=True, cwd=run_pcsr.cwd, env=run_pcsr.env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        1,
        "pcsr: The current folder does not exist. Change to another folder.\n",
    )


def test_words_of_python_stay_off_stderr(run_pcsr: Pcsr) -> None:
    code = "import logging, warnings\nfrom pcsr_cli.cli.main import main\nfrom pcsr_cli.cli import options\n"
    code += "def speak(own):\n    warnings.warn('old', FutureWarning)\n    logging.getLogger('library').error('bad')\n"
    code += "    raise SystemExit(3)\noptions.load_registry = speak\nmain()\n"
    for python, words in (([], ""), (["-W", "default"], "FutureWarning: old")):
        command = [sys.executable, *python, "-c", code, "models"]
        done = subprocess.run(command, env=run_pcsr.env, capture_output=True, text=True, check=False)
        assert done.returncode == 3
        assert words in done.stderr if words else done.stderr == ""


@pytest.mark.parametrize(
    "arguments", ["models --json", "--version", pytest.param("upscale nowhere.png out.png", marks=pytest.mark.slow)]
)
def test_closed_streams_are_not_an_internal_error(run_pcsr: Pcsr, arguments: str) -> None:
    command = f"{sys.executable} -m pcsr_cli {arguments} >&- 2>&-"
    done = subprocess.run(command, shell=True, env=run_pcsr.env, cwd=run_pcsr.cwd, check=False)
    assert done.returncode == (1 if "nowhere" in arguments else 2)  # the output goes to stdout


def test_a_closed_pipe_prints_nothing(run_pcsr: Pcsr) -> None:
    command = f"{sys.executable} -m pcsr_cli models --json | true"
    done = subprocess.run(command, shell=True, env=run_pcsr.env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "")
