"""Shell completion of commands, options and models."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import Pcsr

SCRIPT = shutil.which("pcsr", path=str(Path(sys.executable).parent))

needs_script = pytest.mark.skipif(SCRIPT is None, reason="pcsr is not installed as a script")

# Types a line and a tab into an interactive zsh, and prints its output.
ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1=ready; autoload -U compinit; compinit -u; source {script}; stty columns 200'
zpty -r shell seen '*ready'
zpty -r shell seen '*ready'
zpty -w -n shell $'{typed}\\t'
sleep 1
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    zpty -r -t shell seen && print -rn -- "$seen"
    sleep 0.5
done
zpty -d shell
"""


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"there is no {shell} here")


def run(run_pcsr: Pcsr, *command: str) -> str:
    """Run a shell that finds pcsr, and return what it prints."""
    env = {**run_pcsr.env, "PATH": f"{Path(sys.executable).parent}:{run_pcsr.env['PATH']}", "TERM": "dumb"}
    done = subprocess.run(command, env=env, cwd=run_pcsr.cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def offered(run_pcsr: Pcsr, shell: str, typed: str) -> list[str]:
    """Return the completions of a line in a shell after ``--install-completion``."""
    home = Path(run_pcsr.env["HOME"])
    run(run_pcsr, shell, "-c", "pcsr --install-completion; true")
    if shell == "bash":
        assert "completions" in (home / ".bashrc").read_text()
        words = typed.split(" ")
        line = f"COMP_WORDS=({' '.join(words)} ''); COMP_CWORD={len(words) - 1}"
        show = f'source ~/.bashrc; {line}; _pcsr_completion pcsr; printf "%s\\n" "${{COMPREPLY[@]}}"'
        return run(run_pcsr, "bash", "--norc", "-c", show).split()
    text = run(run_pcsr, "fish", "-c", f"complete -C '{typed}'")
    return [line.partition("\t")[0] for line in text.splitlines()]


@needs_script
@needs("fish")
def test_fish_completes_a_model(run_pcsr: Pcsr) -> None:
    assert offered(run_pcsr, "fish", "pcsr upscale --model b") == ["builtin", "builtin-jpeg"]


@needs_script
@needs("bash")
@pytest.mark.slow
def test_bash_completes_commands_options_and_models(run_pcsr: Pcsr) -> None:
    assert offered(run_pcsr, "bash", "pcsr ver") == ["verify"]
    assert sorted(offered(run_pcsr, "bash", "pcsr upscale --pre")) == ["--precision", "--preview"]
    assert offered(run_pcsr, "bash", "pcsr upscale --model b") == ["builtin", "builtin-jpeg"]
    assert offered(run_pcsr, "bash", "pcsr bench --model ") == ["auto", "carn", "builtin", "builtin-jpeg"]
    assert offered(run_pcsr, "bash", "pcsr models show c") == ["carn"]


@needs_script
@needs("zsh")
@pytest.mark.slow
def test_zsh_completes_a_model(run_pcsr: Pcsr) -> None:
    run(run_pcsr, "zsh", "-c", "pcsr --install-completion; true")
    script = Path(run_pcsr.env["HOME"]) / ".zfunc" / "_pcsr"
    text = run(run_pcsr, "zsh", "-f", "-c", ZSH.format(script=script, typed="pcsr upscale --model bui"))
    assert "builtin" in text


@needs_script
@needs("bash")
def test_models_of_a_user_registry_are_completed(run_pcsr: Pcsr) -> None:
    own = run_pcsr.scratch / "own.toml"
    own.write_text(
        (Path(__file__).parents[2] / "weights.toml").read_text(encoding="utf-8").replace("models.carn", "models.mine")
    )
    run_pcsr.env["PCSR_REGISTRY"] = str(own)
    assert offered(run_pcsr, "bash", "pcsr upscale --model m") == ["mine"]
    own.write_text("not a registry")
    assert offered(run_pcsr, "bash", "pcsr upscale --model a") == ["auto"]


@pytest.mark.parametrize(("shell", "part"), [("zsh", "#compdef pcsr"), ("fish", "complete --command pcsr")])
def test_the_script_is_for_the_named_shell(run_pcsr: Pcsr, shell: str, part: str) -> None:
    assert part in run_pcsr("--show-completion", shell).succeeded().stdout


def test_completion_imports_no_torch(run_pcsr: Pcsr) -> None:
    env = {**run_pcsr.env, "_PCSR_COMPLETE": "complete_bash", "COMP_WORDS": "pcsr upscale --model ", "COMP_CWORD": "3"}
    command = [sys.executable, "-X", "importtime", "-m", "pcsr_cli"]
    done = subprocess.run(command, env=env, cwd=run_pcsr.cwd, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["auto", "carn", "builtin", "builtin-jpeg"]
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pcsr_cli.model.registry" in modules
    assert not modules & {"torch", "numpy", "PIL", "huggingface_hub"}
