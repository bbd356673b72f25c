"""The way of one picture in three steps, and what each hands to the next."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from pcsr_cli.engine.forced import Forced
from pcsr_cli.engine.routing_map import RoutingMap
from pcsr_cli.engine.upscaling import Outcome
from pcsr_cli.files import Fingerprint
from pcsr_cli.jobs.belt import Belt
from pcsr_cli.jobs.requests import Errand
from pcsr_cli.pictures.formats import Format
from pcsr_cli.pictures.picture import Layout, Levels, Picture
from pcsr_cli.routing import Routing


@dataclass(frozen=True)
class Ready:
    """A picture that was read, found to fit its output's format, and routed."""

    picture: Picture
    content: Fingerprint | None
    format: Format
    layout: Layout
    routing: Routing
    notes: tuple[str, ...]
    seconds: float
    forced: Forced | None = None
    routed: RoutingMap | None = None


@dataclass(frozen=True)
class Computed:
    """What came of computing, and when it ended."""

    ready: Ready
    outcome: Outcome
    began: float
    ended: float


@dataclass(frozen=True)
class Finished:
    """An errand that is done: computed, and in its place at the time of ``written``. Or it failed with ``error``."""

    item: Errand
    computed: Computed | None = None
    written: float | None = None
    error: Exception | None = None


class Stages(ABC):
    """What is done for every errand. Each may raise: then that one has failed, and no other."""

    @abstractmethod
    def read(self, item: Errand) -> Ready:
        """In a thread of its own, ahead."""

    @abstractmethod
    def compute(self, item: Errand, read: Ready, belt: Belt[Levels]) -> Computed:
        """In the caller's thread; puts rows that are finished on the belt."""

    @abstractmethod
    def write(self, item: Errand, read: Ready, belt: Belt[Levels]) -> float:
        """In a thread of its own, beginning with ``compute`` and going on behind it; when it was done."""
