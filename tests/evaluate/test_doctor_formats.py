"""Formats are tried out, and what is missing for those that do not work is named."""

import importlib

import pytest

from pcsr_cli.evaluate.doctor import Finding, State, examine_formats
from pcsr_cli.images import formats
from pcsr_cli.images import formats as plug_ins

HEIC = next(format for format in formats.FORMATS if format.name == "HEIC")


def found() -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine_formats()}


def test_what_works_is_told() -> None:
    told = found()["formats"]
    assert told.state is State.FINE
    assert {"PNG", "JPEG", "TIFF"} <= set(told.said.replace(",", "").replace(";", "").split())


def test_a_missing_plug_in_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda module: None)
    told = found()
    assert told["format HEIC"].state is State.SHORT
    assert "pillow-heif" in told["format HEIC"].said
    assert told["format HEIC"].next_step == "Run: pip install pillow-heif"
    assert told["format JPEG XL"].next_step == "Run: pip install pillow-jxl-plugin"
    assert "HEIC" not in told["formats"].said


def test_a_plug_in_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> object:
        raise ImportError(f"libheif.so is missing, for {name}")

    monkeypatch.setattr(formats, "find_spec", lambda module: object())
    monkeypatch.setattr(importlib, "import_module", broken)
    told = found()["format HEIC"]
    assert told.state is State.SHORT and "libheif.so is missing" in told.said


def test_a_format_of_pillows_own_that_does_not_work_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(format: formats.Format) -> None:
        if format.name == "WebP":
            raise OSError("encoder error -2")

    monkeypatch.setattr(plug_ins, "load", broken)
    told = found()
    assert told["format WebP"].state is State.BROKEN and "encoder error -2" in told["format WebP"].said
    assert HEIC.installed is ("format HEIC" not in told)
