"""Present parts of a file to a decoder as one file."""

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, BinaryIO


class _Parts(io.RawIOBase):
    """Reads parts of a file, each (start, length), and bytes, as one sequence."""

    def __init__(self, file: BinaryIO, parts: Sequence[tuple[int, int] | bytes]) -> None:
        self._file, self._parts, self._at = file, parts, 0
        lengths = (len(part) if isinstance(part, bytes) else part[1] for part in parts)
        self._ends = list(accumulate(lengths))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1]}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        index = bisect_right(self._ends, self._at)
        if index == len(self._ends):
            return 0
        view, part, left = memoryview(buffer), self._parts[index], self._ends[index] - self._at
        wanted = min(len(view), left)
        if isinstance(part, bytes):
            content = part[len(part) - left :][:wanted]
        else:
            self._file.seek(part[0] + part[1] - left)
            content = self._file.read(wanted)
        view[: len(content)] = content
        self._at += len(content)
        return len(content)


def join_parts(file: BinaryIO, parts: Sequence[tuple[int, int] | bytes]) -> BinaryIO:
    """Return a file of parts of ``file``, (start, length), and bytes. Reading from the result moves the position in
    ``file``."""
    return io.BufferedReader(_Parts(file, parts))
