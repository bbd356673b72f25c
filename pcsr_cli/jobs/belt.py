"""A belt that carries finished rows from the thread that computes them to the one that writes them, a few at a time."""

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

Load = TypeVar("Load")


class BeltStoppedError(Exception):
    """The other end has gone away; why, it tells itself."""


class Belt(Generic[Load]):
    """One thread puts, another takes, in order; when either stops, the other learns of it at its next step.

    At most ``room`` loads are on it or being taken care of, so that a slow writer holds the computing up instead of
    filling the memory. Made of queues that an interruption cannot leave locked."""

    def __init__(self, room: int = 2) -> None:
        self._loads: SimpleQueue[Load | None] = SimpleQueue()  # None ends it
        self._places: SimpleQueue[None] = SimpleQueue()
        self._stopped = False
        for _ in range(room):
            self._places.put(None)

    def put(self, load: Load) -> None:
        """Hand a load over, when there is room. Raises BeltStoppedError."""
        if not self._stopped:
            self._places.get()
        if self._stopped:
            raise BeltStoppedError
        self._loads.put(load)

    def close(self) -> None:
        """Nothing more comes: who takes gets what is left and is done."""
        self._loads.put(None)

    def stop(self) -> None:
        """End it at once, from either end or from outside."""
        self._stopped = True
        self._places.put(None)
        self._loads.put(None)

    def loads(self) -> Iterator[Load]:
        """What was put, until it is closed. Raises BeltStoppedError if it is stopped before."""
        while True:
            load = self._loads.get()
            if self._stopped:
                raise BeltStoppedError
            if load is None:
                return
            yield load
            self._places.put(None)
