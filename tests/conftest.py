"""Settings and fixtures for all tests: hypothesis profiles and the reference material."""

import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.command import fork_server, hub, run_pcsr, tiny_folder
from tests.s3_server import bucket, s3_server

__all__ = ["bucket", "fork_server", "hub", "run_pcsr", "s3_server", "tiny_folder"]

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("PCSR_SHARED", ROOT.parent / "shared"))

# A shell starts background jobs with SIGINT ignored, and the tests of interruptions need it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The test networks are too small for several threads.
torch.set_num_threads(1)

# The default profile draws the same examples every time. `--hypothesis-profile=explore` draws new ones.
settings.register_profile("steady", derandomize=True, deadline=None, database=None, max_examples=40)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("steady")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARED.is_dir():
        return
    absent = pytest.mark.skip(reason="no reference material: ../shared is not there and PCSR_SHARED names no folder")
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(absent)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material. Tests that use it have the marker ``shared``."""
    return SHARED
