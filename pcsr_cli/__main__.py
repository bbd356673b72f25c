"""``pcsr``, and ``python -m pcsr_cli``."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line; being interrupted while it is still being imported is no mistake either."""
    try:
        from pcsr_cli.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
