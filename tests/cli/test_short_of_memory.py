"""Too little memory: one sentence, exit code 1, and nothing left behind, wherever it runs out."""

import sys

import numpy as np
import pytest

from tests.command import Pcsr
from tests.failing import tells
from tests.images import save

MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by the address space")
@pytest.mark.parametrize(
    ("most", "where"), [(20 * MIB, "reading"), (130 * MIB, "the strip of the result")], ids=["reading", "computing"]
)
@pytest.mark.parametrize("output", ["out.png", "out.jpg"])
def test_it_is_told_in_one_sentence(run_pcsr: Pcsr, tiny_folder: object, output: str, most: int, where: str) -> None:
    save(run_pcsr.cwd / "in.png", np.full((1500, 2000, 3), 77, np.uint8))
    ran = run_pcsr("upscale", "in.png", output, "--model", str(tiny_folder), most_memory=most)
    assert tells(ran.failed(1).stderr, "There is not enough memory."), where
    assert run_pcsr.files() == ["in.png"]
