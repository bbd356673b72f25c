"""Choose the model for each image of a run by the kind of its source."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, Self

from pcsr_cli.errors import InputError
from pcsr_cli.images.image import Pixels
from pcsr_cli.images.source import SourceKind, find_kind, read_kind
from pcsr_cli.model.registry import LoadedModel


class ModelChoice:
    """The models of a run, for clean and for lossy sources. Each model is loaded once, when it is needed.

    ``load`` loads the model for lossy sources (True) or for clean ones. Without ``by_source``, the model for clean
    sources is used for all images. ``kind`` replaces the kind that each file would have. ``kept`` has the names of the
    models that made the results in the output folder, the latest first, which ``load`` may prefer. Several threads may
    use a choice."""

    def __init__(
        self, load: Callable[[bool], LoadedModel], by_source: bool = False, kind: SourceKind | None = None
    ) -> None:
        self.by_source = by_source
        self.kind = kind
        self.kept: tuple[str, ...] = ()
        self._load = load
        self._loaded: dict[bool, LoadedModel] = {}
        self._lock = threading.Lock()

    @classmethod
    def single(cls, model: LoadedModel) -> Self:
        """The choice of one model for all images."""
        choice = cls(lambda lossy: model)
        choice.get(None)
        return choice

    @property
    def loaded(self) -> tuple[LoadedModel, ...]:
        """The models that are loaded."""
        return tuple(self._loaded.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes of the loaded models."""
        return tuple(note for model in self.loaded for note in model.notes)

    def prepare(self, sources: Iterable[Path | BinaryIO]) -> None:
        """Load the models that these images need by their headers. Raises the errors of loading."""
        for source in sources:
            self.likely(source)
            if len(self._loaded) == 1 + self.by_source:
                return

    def load_all(self) -> tuple[LoadedModel, ...]:
        """Return the model for clean sources and, if the model depends on the source, the model for lossy sources.

        Raises the errors of loading."""
        return tuple(self.get(SourceKind(lossy)) for lossy in (False, True)[: 1 + self.by_source])

    def find_kind(self, source: Path | BinaryIO, rgb: Pixels) -> SourceKind | None:
        """Return the kind of an image with the pixels ``rgb`` (H, W, 3), None if no model depends on the kind.

        Raises InputError."""
        if not self.by_source:
            return None
        return find_kind(source, rgb) if self.kind is None else self.kind

    def get(self, kind: SourceKind | None) -> LoadedModel:
        """Return the model for a kind, and load it if necessary. Raises the errors of loading."""
        lossy = self.by_source and kind is not None and kind.lossy
        with self._lock:
            if lossy not in self._loaded:
                self._loaded[lossy] = self._load(lossy)
            return self._loaded[lossy]

    def is_certain(self, source: Path | BinaryIO) -> bool:
        """Return whether the model for an image is known without its pixels, which may show the blocks of a JPEG."""
        kind = self._kind_of_file(source)
        return not self.by_source or self.kind is not None or (kind is not None and kind.lossy)

    def likely(self, source: Path | BinaryIO) -> LoadedModel:
        """Return the model for an image by its header alone. Raises the errors of loading."""
        return self.get(self._kind_of_file(source))

    def possible(self, source: Path) -> tuple[LoadedModel, ...]:
        """Return the models that an image may get. The function does not search the pixels for the blocks of a JPEG.

        Raises the errors of loading."""
        likely = self.likely(source)
        return (likely,) if self.is_certain(source) else (likely, self.get(SourceKind(lossy=True)))

    def _kind_of_file(self, source: Path | BinaryIO) -> SourceKind | None:
        """Return the kind that the header states, None for a file that cannot be read, which is reported when the image
        is read."""
        if not self.by_source or self.kind is not None:
            return self.kind
        try:
            return read_kind(source)
        except InputError:
            return None
