"""The checks of ``pcsr doctor``: each problem is reported with a next step."""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

import psutil
import pytest
import torch
from huggingface_hub import constants

import pcsr_cli
from pcsr_cli.evaluate import doctor
from pcsr_cli.evaluate.doctor import TESTED_TORCH, Finding, State, check_cache, check_formats, check_models
from pcsr_cli.images import formats
from tests.command import ROOT
from tests.model.test_hub import SHA256, put


def by_subject(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def machine() -> dict[str, Finding]:
    """Return the findings about the machine."""
    checks = (getattr(doctor, f"check_{name}") for name in MACHINE)
    return by_subject(finding for check in checks for finding in check())


MACHINE = ("versions", "torch", "libraries", "device", "memory", "threads", "kernels")


class TestMachine:
    def test_versions_memory_and_threads_are_reported(self) -> None:
        found = machine()
        assert pcsr_cli.__version__ in found["versions"].message
        assert found["torch"].facts["version"] == torch.__version__
        assert found["libraries"].facts["pillow"] == metadata.version("pillow")
        assert found["memory"].facts["total"] == psutil.virtual_memory().total
        assert found["threads"].facts["threads"] == torch.get_num_threads()

    @staticmethod
    def without_pyvips(name: str) -> str:
        if name == "pyvips":
            raise metadata.PackageNotFoundError
        return "1.0"

    @pytest.mark.parametrize(
        ("where", "name", "replacement", "subject", "state", "step"),
        [
            (doctor, "TESTED_TORCH", ("1.1.0", "1.2.3"), "torch", "missing", "pip install torch==1.2.3"),
            (metadata, "version", without_pyvips, "libraries", "problem", "pip install pyvips"),
            (shutil, "which", lambda name: f"/usr/bin/{name}", "device", "missing", "CUDA"),
            (doctor, "free_memory", lambda device: 2**28, "memory", "missing", "Close other programs"),
            (doctor, "onednn_problem", lambda dtype: "no oneDNN", "kernels", "missing", "build with oneDNN"),
        ],
    )
    def test_a_problem_is_reported(
        self,
        monkeypatch: pytest.MonkeyPatch,
        where: object,
        name: str,
        replacement: object,
        subject: str,
        state: State,
        step: str,
    ) -> None:
        monkeypatch.setattr(where, name, replacement)
        finding = machine()[subject]
        assert finding.state == state
        assert step in finding.next_step

    @pytest.mark.parametrize(("module", "package"), [("pyvips", "pyvips-binary"), ("simplejpeg", "simplejpeg")])
    def test_a_decoder_that_does_not_load_is_a_problem(
        self, monkeypatch: pytest.MonkeyPatch, module: str, package: str
    ) -> None:
        monkeypatch.setitem(sys.modules, module, None)
        finding = machine()[f"library {module}"]
        assert finding.state == "problem"
        assert finding.message.startswith(f"{module} does not load: ")
        assert package in finding.next_step

    def test_the_figures_were_made_with_a_tested_torch(self) -> None:
        constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        assert f"torch=={TESTED_TORCH[-1]}" in constraints

    def test_a_limit_on_threads_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert "OMP_NUM_THREADS=1" in machine()["threads"].message

    @pytest.mark.parametrize(("load", "state"), [(0.0, "ok"), (99.0, "missing")])
    def test_a_busy_machine_is_reported(self, monkeypatch: pytest.MonkeyPatch, load: float, state: State) -> None:
        monkeypatch.setattr("psutil.getloadavg", lambda: (load, 0.0, 0.0))
        assert machine()["threads"].state == state
        assert ("busy: load 99.0" in machine()["threads"].message) == (load > 0)


class TestModels:
    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """An empty cache, and a Hub that responds."""
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(doctor, "reach", lambda location, name: None)
        return tmp_path

    @staticmethod
    def snapshot(cache: Path) -> Path:
        folder = cache / "models--someone--tiny" / "snapshots" / ("0" * 40)
        folder.mkdir(parents=True)
        return folder

    def test_a_healthy_installation_needs_no_next_step(self, cache: Path) -> None:
        found = by_subject([*check_cache(), *check_models()])
        assert {finding.state for finding in found.values()} == {"ok"}
        assert found["model builtin"].facts["sha256"] is not None
        assert list(cache.iterdir()) == []

    def test_the_size_of_the_cache_is_reported(self, cache: Path) -> None:
        put(self.snapshot(cache), "model.safetensors", SHA256, b"weights")
        assert by_subject(check_cache())["cache"].facts == {"folder": str(cache), "bytes": 7, "writable": True}

    def test_a_full_disk_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "MIN_DISK", 2**80)
        assert by_subject(check_cache())["cache"].state == "missing"

    def test_a_refused_path_does_not_end_the_check(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path) -> bool:  # as Path.exists does until Python 3.13
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "exists", refuse)
        assert by_subject(check_cache())["cache"].state == "ok"

    def test_a_model_of_another_program_is_ignored(self, cache: Path) -> None:
        folder = self.snapshot(cache)
        put(folder, "config.json", "a", b'{"model_type": "llama"}')
        put(folder, "model.safetensors", SHA256, b"changed")
        assert "cache entry" not in by_subject(check_cache())

    @pytest.mark.parametrize(("config", "weights"), [("a", SHA256), (SHA256, "a")], ids=["weights", "config"])
    def test_a_damaged_model_is_reported(self, cache: Path, config: str, weights: str) -> None:
        folder = self.snapshot(cache)
        put(folder, "config.json", config, b'{"heavy_sampler_spec": {}}')
        put(folder, "model.safetensors", weights, b"\x02\0\0\0\0\0\0\0{}")
        finding = by_subject(check_cache())["cache entry"]
        assert finding.state == "problem"
        assert finding.next_step == f"Run: pcsr models fetch someone/tiny@{'0' * 40}"
        assert finding.facts["files"] == ["config.json" if weights == "a" else "model.safetensors"]

    def test_a_config_that_cannot_be_read_is_reported(self, cache: Path) -> None:
        folder = self.snapshot(cache)
        put(folder, "model.safetensors", SHA256, b"weights")
        (folder / "config.json").mkdir()
        assert by_subject(check_cache())["cache entry"].facts["files"] == ["config.json"]


class TestFormats:
    def test_working_formats_are_listed(self) -> None:
        finding = by_subject(check_formats())["formats"]
        assert finding.state == "ok"
        assert {"PNG", "JPEG", "TIFF"} <= set(finding.message.replace(",", "").replace(";", "").split())

    def test_a_missing_plug_in_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(formats, "find_spec", lambda module: None)
        found = by_subject(check_formats())
        assert found["format HEIC"].state == "missing"
        assert "pillow-heif" in found["format HEIC"].message
        assert found["format HEIC"].next_step == "Run: pip install pillow-heif"
        assert found["format JPEG XL"].next_step == "Run: pip install pillow-jxl-plugin"
        assert "HEIC" not in found["formats"].message

    def test_a_plug_in_that_cannot_be_imported_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(name: str) -> object:
            raise ImportError(f"libheif.so is missing, for {name}")

        monkeypatch.setattr(formats, "find_spec", lambda module: object())
        monkeypatch.setattr(importlib, "import_module", broken)
        finding = by_subject(check_formats())["format HEIC"]
        assert finding.state == "missing" and "libheif.so is missing" in finding.message

    def test_a_pillow_format_that_does_not_work_is_a_problem(self, monkeypatch: pytest.MonkeyPatch) -> None:
        load: Callable[[formats.Format], None] = formats.load_plug_in

        def broken(format: formats.Format) -> None:
            if format.name == "WebP":
                raise OSError("encoder error -2")
            load(format)

        monkeypatch.setattr(formats, "load_plug_in", broken)
        found = by_subject(check_formats())
        assert found["format WebP"].state == "problem" and "encoder error -2" in found["format WebP"].message
