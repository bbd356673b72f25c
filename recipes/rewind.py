"""Move a saved training state to another point of its learning-rate curve, and so continue a finished stage.

    python rewind.py STATE PROGRESS OUTPUT

PROGRESS is from 0 (the start of the cosine) to 1 (its end). Raise the stage's iterations in the recipe above the
iterations already done, then run: pcsr train RECIPE --from OUTPUT
"""

import argparse
from pathlib import Path

import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state", type=Path)
    parser.add_argument("progress", type=float)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    if not 0 <= arguments.progress < 1:
        parser.error("PROGRESS must be at least 0 and below 1")
    state = torch.load(arguments.state, map_location="cpu", weights_only=True)
    torch.save({**state, "progress": arguments.progress}, arguments.output)


if __name__ == "__main__":
    main()
