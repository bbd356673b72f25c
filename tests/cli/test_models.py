"""``pcsr models``: list, download, show and convert."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pcsr_cli.errors import RefusedOutputError
from pcsr_cli.model.checkpoint import read_checkpoint
from pcsr_cli.model.spec import ModelSpec, Scales, write_config
from tests.command import Pcsr as Command
from tests.hub_server import Hub
from tests.images import levels, load, save
from tests.tiny import tiny_entry, tiny_model, tiny_spec


def published(spec: ModelSpec) -> dict[str, Any]:
    """The constructor arguments of a published file, without the keys that pcsr adds to its own."""
    arguments = write_config(spec, Scales((4.0,)))
    return {key: value for key, value in arguments.items() if key.endswith("_spec")}


def write_pth(path: Path, spec: ModelSpec, state: dict[str, torch.Tensor]) -> Path:
    """Write a checkpoint in the layout of the published ones and return its path."""
    model = {"name": "pcsr-phase1", "args": published(spec), "sd": state}
    optimizer = {"name": "adam", "args": {"lr": 0.0002}, "sd": {"state": {}, "param_groups": [{"lr": 1e-7}]}}
    torch.save({"model": model, "optimizer": optimizer, "iter": 2_000_000, "resume_path": None}, path)
    return path


def own_registry(command: Command, text: str) -> Path:
    path = command.cwd / "own.toml"
    path.write_text(text)
    return path


# List and show.


def test_the_list_shows_models_and_their_state(run_pcsr: Command) -> None:
    ran = run_pcsr("models").succeeded()
    assert ran.stderr == ""
    (carn,) = [line for line in ran.stdout.splitlines() if line.startswith("carn ")]
    for words in ("x4", "168,970", "not stated by its authors", "not cached"):
        assert words in carn
    models = run_pcsr("models", "--json").succeeded().document
    assert models[0]["name"] == "carn"
    assert all(set(model) == {"name", "scales", "parameters", "licence", "state"} for model in models)


def test_a_downloaded_model_is_listed_as_cached(run_pcsr: Command, hub: Hub, tiny_folder: Path) -> None:
    commit = hub.add("someone/tiny", tiny_folder)
    where = f'repo = "someone/tiny"\nrevision = "{commit}"'
    registry = own_registry(run_pcsr, tiny_entry("tiny", where))

    def state() -> str:
        models = run_pcsr("models", "--registry", registry, "--json").succeeded().document
        return next(str(model["state"]) for model in models if model["name"] == "tiny")

    assert state() == "not cached"
    fetched = run_pcsr("models", "fetch", "tiny", "--registry", registry).succeeded()
    assert fetched.stdout == ""
    assert "downloaded and complete" in fetched.stderr
    assert state() == "cached"
    requests = len(hub.requests)
    run_pcsr("models", "fetch", "tiny", "--registry", registry, "--quiet").succeeded()
    assert len(hub.requests) == requests


def test_an_option_may_precede_the_command(run_pcsr: Command) -> None:
    before = run_pcsr("models", "--json", "show", "builtin").succeeded()
    assert before.document == run_pcsr("models", "show", "builtin", "--json").succeeded().document
    run_pcsr("models", "--registry", "gone.toml", "show", "builtin").failed(1, "gone.toml")


def test_show_prints_the_registry_entry(run_pcsr: Command) -> None:
    document = run_pcsr("models", "show", "carn", "--json").succeeded().document
    assert document["repo"] == "3587jjh/pcsr_carn"
    assert len(document["revision"]) == 40
    assert document["samplers"] == [[20] * 3, [74] * 4]
    assert "None" not in run_pcsr("models", "show", "builtin").succeeded().stdout
    shown = run_pcsr("models", "show", "carn").succeeded().stdout
    for words in (document["repo"], document["revision"], document["licence"], document["source"], "168970", "19"):
        assert words in shown.replace("168,970", "168970")


@pytest.mark.parametrize("command", ["show", "fetch"])
def test_an_unknown_name_lists_the_known_ones(run_pcsr: Command, command: str) -> None:
    run_pcsr("models", command, "nonsense").failed(2, "no model 'nonsense'", "carn")


# User registries.


@pytest.mark.parametrize("how", ["option", "variable", "configuration"])
def test_a_user_registry_adds_and_overrides(run_pcsr: Command, tiny_folder: Path, how: str) -> None:
    where = f'folder = "{tiny_folder}"'
    text = "".join(tiny_entry(name, where, "own [red]words[/]") for name in ("carn", "mine"))
    path = own_registry(run_pcsr, text)
    given: list[str | Path] = ["--registry", path] if how == "option" else []
    if how == "variable":
        run_pcsr.env["PCSR_REGISTRY"] = str(path)
    if how == "configuration":
        usual = Path(run_pcsr.env["HOME"]) / ".config" / "pcsr" / "weights.toml"
        usual.parent.mkdir(parents=True)
        path.rename(usual)
    listed = {line.split()[0]: line for line in run_pcsr("models", *given).succeeded().stdout.splitlines()}
    for name in ("carn", "mine"):
        assert "own [red]words[/]" in listed[name]
        assert listed[name].rstrip().endswith("here")
    save(run_pcsr.cwd / "in.png")
    ran = run_pcsr("upscale", "in.png", "out.png", "--model", "mine", "--json", *given).succeeded()
    assert (ran.document["model"]["name"], ran.document["model"]["source"]) == ("mine", "a test")


def test_a_folder_in_a_registry_is_relative_to_it(run_pcsr: Command, tiny_folder: Path) -> None:
    (run_pcsr.cwd / "weights").symlink_to(tiny_folder)
    registry = own_registry(run_pcsr, tiny_entry("mine", 'folder = "weights"'))
    run_pcsr.cwd = run_pcsr.scratch
    run_pcsr("models", "fetch", "mine", "--registry", registry).succeeded()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[models.x", ["TOML"]),
        ("[other]", ["unknown field `other`"]),
        ("[models.x]", ["model 'x'", "missing required field `backbone`"]),
    ],
)
def test_an_invalid_registry_is_refused(run_pcsr: Command, text: str, words: list[str]) -> None:
    registry = own_registry(run_pcsr, text)
    run_pcsr("models", "--registry", registry).failed(1, "own.toml", *words)


def test_a_missing_registry_is_refused(run_pcsr: Command) -> None:
    run_pcsr("models", "--registry", "nowhere.toml").failed(1, "nowhere.toml")
    run_pcsr("models", env={"PCSR_REGISTRY": "nowhere.toml"}).failed(1, "nowhere.toml", "PCSR_REGISTRY")


def test_files_that_differ_from_the_registry_are_refused(run_pcsr: Command, tiny_folder: Path) -> None:
    entry = tiny_entry("mine", f'folder = "{tiny_folder}"')
    registry = own_registry(run_pcsr, entry.replace("radius = 6", "radius = 5"))
    run_pcsr("models", "fetch", "mine", "--registry", registry).failed(1, "mine", "registry")


# Convert.


def upscaled(command: Command, model: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    save(command.cwd / "in.png", levels(7, 9))
    command("upscale", "in.png", "out.png", "--model", model, "--overwrite").succeeded()
    return load(command.cwd / "out.png")


@pytest.mark.parametrize(
    "backbone", ["fsrcnn", *(pytest.param(name, marks=pytest.mark.slow) for name in ("carn", "srresnet"))]
)
def test_a_converted_model_gives_the_same_image(run_pcsr: Command, backbone: str) -> None:
    model = tiny_model(backbone)
    pth = write_pth(run_pcsr.cwd / "in.pth", model.spec, model.state_dict())
    ran = run_pcsr("models", "convert", "in.pth", "out/folder", "--json").succeeded()
    assert ran.document == {"folder": "out/folder", "parameters": model.parameter_count()}
    assert np.array_equal(upscaled(run_pcsr, pth), upscaled(run_pcsr, run_pcsr.cwd / "out" / "folder"))
    converted = read_checkpoint(run_pcsr.cwd / "out" / "folder")
    assert (converted.spec, converted.scales) == (model.spec, Scales((4.0,)))
    weights = run_pcsr.cwd / "out" / "folder" / "model.safetensors"
    assert np.array_equal(upscaled(run_pcsr, pth), upscaled(run_pcsr, weights))


@pytest.mark.shared
@pytest.mark.parametrize("backbone", ["fsrcnn", "srresnet", "carn"])
def test_a_checkpoint_of_the_published_keys_and_shapes_is_converted(
    run_pcsr: Command, shared: Path, backbone: str
) -> None:
    first, *rest = (shared / "spec" / "state_dicts" / f"{backbone}_pcsr.txt").read_text().splitlines()
    arguments = json.loads(first.partition("constructor arguments ")[2])
    state = {}
    for line in rest:
        key, shape, dtype = line.split()
        sizes = [] if shape == "scalar" else [int(size) for size in shape.split("x")]
        state[key] = torch.zeros(sizes, dtype=getattr(torch, dtype))
    content = {"model": {"name": "pcsr-phase1", "args": arguments, "sd": state}}
    torch.save(content, run_pcsr.cwd / "in.pth")
    run_pcsr("models", "convert", "in.pth", "out").succeeded()
    assert set(load_file(run_pcsr.cwd / "out" / "model.safetensors")) == set(state)


@pytest.mark.parametrize("command", [("fetch", "builtin"), ("convert", "in.pth", "out")])
def test_json_and_quiet_exclude_each_other(run_pcsr: Command, command: tuple[str, ...]) -> None:
    run_pcsr("models", *command, "--json", "--quiet").failed(2, "--json and --quiet exclude each other.")


def test_an_existing_model_needs_overwrite(run_pcsr: Command) -> None:
    model = tiny_model("fsrcnn")
    write_pth(run_pcsr.cwd / "in.pth", model.spec, model.state_dict())
    (run_pcsr.cwd / "out").mkdir()
    (run_pcsr.cwd / "out" / "config.json").write_text("mine")
    run_pcsr("models", "convert", "in.pth", "out").failed(
        RefusedOutputError.exit_code, f"{Path('out/config.json')} already exists."
    )
    assert (run_pcsr.cwd / "out" / "config.json").read_text() == "mine"
    ran = run_pcsr("models", "convert", "in.pth", "out", "--overwrite").succeeded()
    assert (ran.stdout, ran.stderr.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.pth", "nowhere.pth"),
        ("folder", "folder"),
        ("text.pth", "text.pth"),
        ("incomplete.pth", "missing: encoder.head_conv.0.bias"),
    ],
)
def test_other_files_are_not_converted(run_pcsr: Command, source: str, message: str) -> None:
    (run_pcsr.cwd / "folder").mkdir()
    (run_pcsr.cwd / "text.pth").write_text("text")
    state = dict(tiny_model("fsrcnn").state_dict())
    del state["encoder.head_conv.0.bias"]
    write_pth(run_pcsr.cwd / "incomplete.pth", tiny_spec("fsrcnn"), state)
    before = run_pcsr.files()
    run_pcsr("models", "convert", source, "out").failed(1, message)
    assert run_pcsr.files() == before


def test_converting_to_an_impossible_folder_leaves_no_files(run_pcsr: Command) -> None:
    model = tiny_model("fsrcnn")
    write_pth(run_pcsr.cwd / "in.pth", model.spec, model.state_dict())
    before = run_pcsr.files()
    run_pcsr("models", "convert", "in.pth", "in.pth").failed(1, "in.pth")
    run_pcsr("models", "convert", "in.pth", "in.pth/out").failed(1, "in.pth")
    run_pcsr("models", "convert", "in.pth", "out" * 200).failed(1, "Cannot make the folder", "too long")
    run_pcsr("models", "convert", "in.pth", "new/out", max_file_size=3000).failed(1, "cannot be written", "large")
    assert run_pcsr.files() == before
