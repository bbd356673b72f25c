"""The progress of many pictures: one bar for the whole, with the time left, and one for the picture being computed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from pcsr_cli.cli.console import printable, stderr_console

if TYPE_CHECKING:
    from pcsr_cli.jobs.find import Task
    from pcsr_cli.jobs.request import Errand


class ManyProgress:
    """Pictures count by the size of their files, which is known beforehand; nothing is shown off a terminal."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._bars: Progress | None = None
        self._whole = self._this = TaskID(0)
        self._names: list[str] = []
        self._sizes: list[int] = []
        self._before: list[int] = []
        self._places: dict[object, int] = {}
        self._now: Errand | None = None
        self._computed = 0
        self._done = 0

    @contextmanager
    def shown(self, tasks: "Sequence[Task]") -> Iterator[None]:
        """Show bars for these while inside."""
        console = stderr_console()
        if self._quiet or not console.is_terminal or not tasks:
            yield
            return
        self._names = [printable(task.source.name) for task in tasks]
        self._sizes = [_size(task) for task in tasks]
        self._before = list(accumulate(self._sizes, initial=0))
        self._places = {task.source: place for place, task in enumerate(tasks)}
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[told]}", markup=False),
        )
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as self._bars:
            self._whole = self._bars.add_task("pictures", total=sum(self._sizes), told=f"0/{len(tasks)}")
            self._this = self._bars.add_task(self._names[0], total=1.0, told="")
            yield
        self._bars = None

    def share_of_picture(self, errand: "Errand", share: float) -> None:
        """Hear how much of the picture being computed is done; pictures come in order."""
        if self._bars is None:
            return
        if errand is not self._now:
            self._now, self._computed = errand, self._places.get(errand.source, 0)
        name, before, size = self._names[self._computed], self._before[self._computed], self._sizes[self._computed]
        self._bars.update(self._this, description=name, completed=share, told=f"{share:.0%}")
        self._bars.update(self._whole, completed=before + share * size)

    def picture_done(self) -> None:
        """Hear that a picture is written, or has failed."""
        self._done += 1
        if self._bars is not None:
            self._bars.update(self._whole, told=f"{self._done}/{len(self._names)}")


def _size(task: "Task") -> int:
    try:
        return max(1, task.source.stat().st_size)
    except OSError:
        return 1
