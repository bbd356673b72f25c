"""A run's state between two iterations, on disk: everything needed to go on from there, written whole or not at all."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcsr_cli.errors import ModelError, TrainingError
from pcsr_cli.images.files import atomic_write, exists
from pcsr_cli.model.checkpoint import load_pickle
from pcsr_cli.model.spec import ModelSpec, Scales, write_config

FORMAT = 1


@dataclass(frozen=True)
class RunState:
    """Where a run is: iteration ``step`` of ``stage`` is the next one, ``seconds`` of training lie behind.

    A batch is a function of the recipe's seed, ``stage`` and ``step``, so that nothing about the data is kept;
    ``random`` is torch's own state, for whatever else may draw from it.
    """

    stage: int
    step: int
    progress: float
    seconds: float
    architecture: dict[str, Any]
    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Any]
    random: Tensor


def architecture(spec: ModelSpec) -> dict[str, Any]:
    """What has to agree between a state and a recipe, as plain values; the scales may differ."""
    described = write_config(spec, Scales((1.0,)))
    return {key: value for key, value in described.items() if key not in {"scales", "continuous"}}


def save_state(state: RunState, path: Path) -> None:
    """Write ``state`` to ``path``, which at every moment holds the old state or the new one. Raises OutputError."""
    content = {"format": FORMAT, **{entry.name: getattr(state, entry.name) for entry in fields(state)}}
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        torch.save(content, stream)
        stream.flush()
        os.fsync(stream.fileno())


def load_state(path: Path, spec: ModelSpec) -> RunState:
    """Read the state of a run that trains a network of ``spec``.

    Raises TrainingError if it is missing, broken, or of another architecture.
    """
    if not exists(path):
        raise TrainingError(f"There is no state {path} to go on from.", "Start anew, without --resume.")
    try:
        content = load_pickle(path)
    except ModelError as error:
        raise TrainingError(f"{path} is no readable state of a run.", "Start anew, without --resume.") from error
    wanted = {entry.name for entry in fields(RunState)}
    if not isinstance(content, dict) or content.get("format") != FORMAT or not wanted <= content.keys():
        raise TrainingError(f"{path} is no state of a run, or of another version's.", "Start anew, without --resume.")
    state = RunState(**{name: content[name] for name in wanted})  # the earliest states hold more than is needed
    if state.architecture != architecture(spec):
        raise TrainingError(
            f"{path} belongs to another architecture than the recipe's [model].", "Restore [model], or start anew."
        )
    return state
