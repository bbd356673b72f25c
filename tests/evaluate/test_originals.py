"""The original networks run under the conditions of the engine."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pcsr_cli.engine.device import full_float32
from pcsr_cli.evaluate import originals
from pcsr_cli.evaluate.originals import LoadedOriginal
from pcsr_cli.model.backbones.fsrcnn import FsrcnnOriginal


def test_they_compute_in_the_precision_they_are_compared_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(originals, "full_float32", lambda _: full_float32(torch.device("cuda")))
    seen: list[str] = []

    class Watched(FsrcnnOriginal):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.backends.cudnn.conv.fp32_precision)  # type: ignore[attr-defined]
            return super().forward(x)

    LoadedOriginal("fsrcnn", Watched().eval(), (0.0, 0.0, 0.0)).upscale(np.zeros((4, 5, 3), np.uint8))
    assert seen == ["ieee"]
