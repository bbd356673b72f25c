"""The entry point of ``pcsr`` and of ``python -m pcsr_cli``."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line. An interruption during the import causes no traceback."""
    try:
        from pcsr_cli.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
