"""``python -m pcsr_cli`` is ``pcsr``."""

from pcsr_cli.cli.main import main

if __name__ == "__main__":
    main()
