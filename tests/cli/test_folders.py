"""``pcsr upscale`` of folders: an interrupted or killed run loses nothing and repeats nothing."""

import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pcsr_cli.cli.main import app
from pcsr_cli.cli.upscale_options import complete_values
from pcsr_cli.errors import OutputError
from pcsr_cli.images.png import PngEncoder
from pcsr_cli.jobs.journal import HIDDEN, Entry, parse_line, segments
from pcsr_cli.model.checkpoint import save_folder
from pcsr_cli.model.spec import Scales
from tests.command import Pcsr, Ran
from tests.failing import fails
from tests.images import levels, load, save
from tests.tiny import file_sha256, tiny_model


@dataclass
class Folders:
    """Runs ``pcsr upscale`` with the tiny model from ``in`` to ``out``."""

    run_pcsr: Pcsr
    model: Path

    def __call__(self, *arguments: str | Path, source: str = "in", output: str = "out", **named: Any) -> Ran:
        return self.run_pcsr("upscale", source, output, "--model", self.model, *arguments, **named)

    @property
    def cwd(self) -> Path:
        return self.run_pcsr.cwd

    def put(self, *names: str, size: tuple[int, int] = (5, 6)) -> None:
        for seed, name in enumerate(names):
            path = self.cwd / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            save(path, levels(*size, seed=seed))

    def results(self, output: str = "out") -> dict[str, bytes]:
        """The files in the folder of results, without the journal and the claims."""
        root = self.cwd / output
        files = [path for path in root.rglob("*") if path.is_file() and HIDDEN not in path.parts]
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    def journal(self) -> list[Entry]:
        """The entries of all segments."""
        lines = (line for path in segments(self.cwd / "out") for line in path.read_bytes().splitlines())
        return [entry for line in lines if isinstance(entry := parse_line(line), Entry)]


@pytest.fixture
def many(run_pcsr: Pcsr, tiny_folder: Path) -> Folders:
    return Folders(run_pcsr, tiny_folder)


def totals(ran: Ran) -> tuple[int, int, int, int]:
    counts = ran.document["totals"]
    return counts["done"], counts["skipped"], counts["failed"], counts["pending"]


# Results.


def test_a_folder_becomes_a_folder_of_results(many: Folders) -> None:
    many.put("img2.png", "img10.jpg", "ä b.png", "sub/c.png")
    (many.cwd / "in" / "notes.txt").touch()
    ran = many("--json").succeeded()
    assert [report["source"] for report in ran.document["reports"]] == ["in/img2.png", "in/img10.jpg", "in/ä b.png"]
    assert totals(ran) == (3, 0, 0, 0)
    assert ran.document["totals"]["ignored"] == 1
    assert sorted(many.results()) == ["img10_x4.jpg", "img2_x4.png", "ä b_x4.png"]
    assert load(many.cwd / "out" / "img2_x4.png").shape == (20, 24, 3)
    many(source="in/img2.png", output="alone.png").succeeded()
    assert (many.cwd / "alone.png").read_bytes() == (many.cwd / "out" / "img2_x4.png").read_bytes()


def test_recursive_keeps_the_tree_and_skips_the_output_folder(many: Folders) -> None:
    many.put("a.png", "sub/deep/a.png")
    for done in (2, 0):
        ran = many("--recursive", "--json", output="in/out").succeeded()
        assert totals(ran) == (done, 2 - done, 0, 0)
    assert sorted(many.results("in/out")) == ["a_x4.png", "sub/deep/a_x4.png"]


def test_patterns_name_templates_and_formats_are_accepted(many: Folders) -> None:
    many.put("a.png", "b.png", "c.png")
    many.run_pcsr(
        "upscale", "in/a.png", "in/[bc].png", "--out-dir", "out", "--model", many.model,
        "--name", "{name}-{scale}{suffix}", "--format", "webp", "--lossless",
    ).succeeded()  # fmt: skip
    assert sorted(many.results()) == ["a.png-4.webp", "b.png-4.webp", "c.png-4.webp"]


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="names are text on these systems")
def test_unusual_names_and_links_are_read(many: Folders) -> None:
    many.put("a.png")
    for name in (os.fsdecode(b"\xff 1.png"), "new\nline.png", f"{'n' * 248}.png", f"{'o' * 251}.png"):
        shutil.copy(many.cwd / "in" / "a.png", many.cwd / "in" / name)
    (many.cwd / "in" / "link.png").symlink_to(many.cwd / "in" / "a.png")
    (many.cwd / "in" / "loop").symlink_to(many.cwd / "in")
    (many.cwd / "in" / "z.png").symlink_to("nowhere.png")
    ran = many("--recursive", "--json")
    assert totals(ran) == (5, 0, 2, 0)  # the result of the longest name would have 258 bytes
    assert {os.fsdecode(b"\xff 1_x4.png"), "new\nline_x4.png", f"{'n' * 248}_x4.png"} < set(many.results())
    assert totals(many("--recursive", "--json")) == (0, 5, 2, 0)


def test_one_image_needs_no_journal(many: Folders) -> None:
    many.put("a.gif")
    arguments = ("upscale", "in/a.gif", "--out-dir", "new/out", "--model", many.model)
    many.run_pcsr(*arguments, "--name", "{stem}-large{suffix}", "--map", "map.png").succeeded()
    assert many.run_pcsr.files() == ["in", "in/a.gif", "map.png", "new", "new/out", "new/out/a-large.png"]


def test_an_image_of_another_format_than_its_result_is_noted(many: Folders) -> None:
    many.put("a.gif", "b.png", "c.ppm")
    notes = [note for report in many("--json").succeeded().document["reports"] for note in report["notes"]]
    assert sorted(note[:4] for note in notes if "became .png; the format option chooses another format" in note) == [
        ".gif", ".ppm"
    ]  # fmt: skip
    assert "became" not in str(many("--format", "webp", "--json", output="webp").succeeded().document["reports"])


def test_one_damaged_image_fails_alone(many: Folders) -> None:
    many.put("a.png", "b.png", "c.png")
    (many.cwd / "in" / "b.png").write_bytes(b"nonsense")
    ran = many()
    assert (ran.code, ran.stdout) == (1, "")
    assert sorted(many.results()) == ["a_x4.png", "c_x4.png"]
    assert "pcsr: skipped: in/b.png is not an image" in ran.stderr
    words = [line.split()[:2] for line in ran.stderr.splitlines()]
    assert ["done", "2"] in words and ["failed", "1"] in words
    document = many("--json").document
    (failed,) = document["failed"]
    assert (failed["source"], failed["output"]) == ("in/b.png", "out/b_x4.png")
    assert "not an image" in failed["error"]


@pytest.mark.slow
def test_frames_enlarges_animations_and_still_images(many: Folders) -> None:
    many.put("a.png", "broken.gif")
    (many.cwd / "in" / "broken.gif").write_bytes(b"GIF89a")
    frames = [Image.fromarray(levels(4, 5, seed=seed)) for seed in range(3)]
    frames[0].save(many.cwd / "in" / "film.gif", save_all=True, append_images=frames[1:])
    ran = many("--frames", "--json")
    assert (ran.code, totals(ran)) == (1, (2, 0, 1, 0))
    assert sorted(many.results()) == ["a_x4.png", "film_x4.gif"]
    with Image.open(many.cwd / "out" / "film_x4.gif") as film:
        assert getattr(film, "n_frames", 1) == 3
    assert totals(many("--frames", "--json")) == (0, 2, 1, 0)
    many(output="stills")
    assert sorted(many.results("stills")) == ["a_x4.png", "film_x4.png"]


def test_fail_fast_stops(many: Folders) -> None:
    many.put(*(f"{number}.png" for number in range(6)))
    (many.cwd / "in" / "1.png").write_bytes(b"nonsense")
    ran = many("--fail-fast", "--json")
    assert (ran.code, totals(ran)) == (1, (1, 0, 1, 4))
    assert sorted(many.results())[0] == "0_x4.png"
    assert len(many.results()) <= 2


def test_each_unusable_image_fails_alone(many: Folders) -> None:
    many.put("a.png", "b.png")
    save(many.cwd / "in" / "clear.png", levels(4, 4, 4))
    arguments = ("upscale", "x" * 300 + ".png", "in", "--out-dir", "out", "--format", "jpg", "--json")
    ran = many.run_pcsr(*arguments, "--model", many.model)
    assert (ran.code, totals(ran)) == (1, (2, 0, 2, 0))
    too_long, clear = (failed["error"] for failed in ran.document["failed"])
    assert "file name too long" in too_long and "has no transparency, but the image has." in clear


def test_quiet_prints_only_failures(many: Folders) -> None:
    many.put("a.png")
    ran = many("--quiet").succeeded()
    assert (ran.stdout, ran.stderr) == ("", "")
    (many.cwd / "in" / "b.png").write_bytes(b"nonsense")
    assert many("--quiet").stderr.splitlines() == ["pcsr: skipped: in/b.png is not an image of a known format."]


@pytest.mark.slow
def test_a_terminal_shows_progress_bars(many: Folders) -> None:
    many.put("a.png", "b.png")
    text = many.run_pcsr.on_terminal("upscale", "in", "out", "--model", many.model, "-v")
    assert "images" in text and "2/2" in text and "b.png" in text
    lines = re.split(r"\r|\n|\x1b\[2K", text)
    assert next(line for line in lines if "a_x4.png" in line).startswith("out/a_x4.png")  # not behind the bar


# Existing results.


def test_a_second_run_skips_what_is_done(many: Folders) -> None:
    many.put("a.png", "b.png")
    many().succeeded()
    before = {path: path.stat().st_mtime_ns for path in (many.cwd / "out").iterdir() if path.suffix == ".png"}
    many.put("a.png", "b.png", "c.png")  # the same content, written again
    ran = many("--json").succeeded()
    assert totals(ran) == (1, 2, 0, 0)
    assert {skipped["why"] for skipped in ran.document["skipped"]} == {"done before"}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "done before" in many().succeeded().stderr


def test_an_edited_result_is_kept(many: Folders) -> None:
    many.put("a.png", "b.png")
    many().succeeded()
    expected = many.results()
    (many.cwd / "out" / "a_x4.png").write_bytes(b"edited")
    (many.cwd / "out" / "b_x4.png").unlink()
    many().failed(2, "out/a_x4.png already exists and was changed since.")
    assert many.results() == {"a_x4.png": b"edited"}
    ran = many("--skip-existing", "--json").succeeded()
    assert totals(ran) == (1, 1, 0, 0)
    assert [skipped["why"] for skipped in ran.document["skipped"]] == ["exists"]
    assert many.results() == {**expected, "a_x4.png": b"edited"}
    assert totals(many("--overwrite", "--json").succeeded()) == (1, 1, 0, 0)
    assert many.results() == expected


def test_results_of_other_options_are_refused_skipped_or_overwritten(many: Folders, tmp_path: Path) -> None:
    many.put("a.png", "b.png")
    many().succeeded()
    before = many.results()
    reason = "a_x4.png already exists and was made with other options; 1 more result exists too."
    many("--no-refine").failed(2, reason, "--overwrite", "--skip-existing")
    assert totals(many("--no-refine", "--skip-existing", "--json").succeeded()) == (0, 2, 0, 0)
    assert many.results() == before
    assert totals(many("--no-refine", "--overwrite", "--json").succeeded()) == (2, 0, 0, 0)
    assert many.results() != before
    assert totals(many("--no-refine", "--json").succeeded()) == (0, 2, 0, 0)
    many.model = tmp_path / "tiny"  # a model of the same name with other weights
    save_folder(tiny_model("fsrcnn", seed=1), Scales((4.0,)), many.model)
    many("--no-refine").failed(2, "was made with another model or other weights")


def test_tiles_and_jobs_do_not_count_as_other_options(many: Folders) -> None:
    many.put("a.png", "b.png", size=(20, 30))
    many("--jobs", "0").succeeded()
    assert totals(many("--tile", "8", "--memory", "1M", "--jobs", "3", "--json").succeeded()) == (0, 2, 0, 0)


def test_the_journal_records_sources_and_settings(many: Folders) -> None:
    many.put("a.png", "sub/b.png")
    many("--recursive", "--adm").succeeded()
    first, second = many.journal()
    assert (first.name, second.name) == ("a_x4.png", "sub/b_x4.png")
    assert first.settings["routing"] == {"adm": True}
    assert first.settings["model"]["name"] == "tiny"
    assert first.result.size == len(many.results()["a_x4.png"])
    assert (first.info["source"], second.info["path"]) == ("in/a.png", "sub/b.png")


def test_a_run_without_images_has_a_reason(many: Folders) -> None:
    many.put("a.png")
    (many.cwd / "list.txt").touch()
    assert "Note: the list is empty." in many("--from-list", "list.txt").succeeded().stderr
    runs = [many("--shard", f"{number}/2").succeeded().stderr for number in (1, 2)]
    assert [f"Note: shard {number}/2 has no image." in text for number, text in zip((1, 2), runs, strict=True)].count(
        True
    ) == 1


@pytest.mark.slow
def test_shards_and_runs_at_once_equal_one_run(thirty: tuple[Folders, dict[str, bytes], float]) -> None:
    many, expected, _ = thirty
    command = [sys.executable, "-m", "pcsr_cli", "upscale", "in", "out", "--model", str(many.model), "--quiet"]
    for shards in (["2/3", "1/3", "3/3"], ["1/1", "1/1"]):
        shutil.rmtree(many.cwd / "out", ignore_errors=True)
        runs = [subprocess.Popen([*command, "--shard", each], cwd=many.cwd, env=many.run_pcsr.env) for each in shards]
        assert [run.wait() for run in runs] == [0] * len(shards)
        assert many.results() == expected
        assert sorted(entry.name for entry in many.journal()) == sorted(expected), "each is made once"
    again = [totals(many("--shard", f"{number}/5", "--json").succeeded()) for number in range(1, 6)]
    assert sum(skipped for _, skipped, _, _ in again) == 30 and sum(done for done, _, _, _ in again) == 0
    assert totals(many("--json").succeeded()) == (0, 30, 0, 0)


def test_a_list_names_the_images_and_results_fan_out(many: Folders) -> None:
    """Names with a line break, bytes that are not UTF-8, and 255 bytes."""
    long = "l" * 251 + ".png"
    many.put("a.png", "sub/b\n.png", os.fsdecode(b"\xff.png"), long, "not listed.png")
    listed = [b"in/a.png", b"in/sub/b\n.png", b"in/\xff.png", b"in/" + long.encode(), b"in/gone.png", b"in/a.png"]
    (many.cwd / "list").write_bytes(b"\0".join(listed))
    ran = many("--from-list", "list", "--fan-out", "--json")
    assert (ran.code, totals(ran)) == (1, (3, 0, 2, 0))
    results = ["a_x4.png", "sub/b\n_x4.png", os.fsdecode(b"\xff_x4.png")]
    assert sorted(name[6:] for name in many.results()) == results
    assert all(re.match(r"[0-9a-f]{2}/[0-9a-f]{2}/", name) for name in many.results())
    errors = sorted(failed["error"] for failed in ran.document["failed"])
    assert "There is no file in/gone.png." in errors and "file name too long" in errors[1]
    (many.cwd / "list").write_bytes(b"in/a.png\nin/not listed.png\n")
    assert totals(many("--from-list", "list", "--fan-out", "--json").succeeded()) == (1, 1, 0, 0)
    command = [sys.executable, "-m", "pcsr_cli", "upscale", "flat", "--from-list", "-", "--model", str(many.model)]
    subprocess.run(command, cwd=many.cwd, env=many.run_pcsr.env, input=b"in/a.png", check=True)
    assert sorted(many.results("flat")) == ["a_x4.png"]


# Refusals before any work.


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "There is no image to enlarge."),
        (["nowhere", "out"], 1, "There is no file nowhere."),
        (["in/a.png", "in/b.png", "out"], 2, "Several images need a folder for their results."),
        (["in/a.png", "o.png", "--recursive"], 2, "needs a folder or several images."),
        (["in/a.png", "o.png", "--name", "{stem}"], 2, "needs a folder or several images."),
        (["in", "in"], 2, "is an input: results in it would be enlarged again by the next run."),
        (["in", "in/a.png"], 2, "is not a folder. Several images need a folder."),
        (["in", "in/a.png/out"], 1, "cannot be written:"),
        (["in", "out", "--name", "{colour}"], 2, "Invalid name template"),
        (["in/a.png", "in/b.png", "--out-dir", "in", "--name", "{name}"], 2, "would replace an input image."),
        (["in", "out", "--quality", "50"], 2, "has no quality setting."),
        (["nowhere/*.png", "out"], 1, "No file matches"),
        (["empty", "out"], 1, "No image found in"),
        (["in", "-"], 2, "- (stdin or stdout) cannot be one of several images."),
        (["in/a.png", "-"], 2, "A result on stdout has no suffix."),
        (["in/a.png", "-", "--format", "png", "--json"], 2, "--json and the image cannot both go to stdout."),
        (["-", "o.png"], 1, "stdin is empty."),
        (["in", "out", "--shard", "4/3"], 2, "Invalid shard '4/3'. Use NUMBER/COUNT"),
        (["in", "out", "--shard", "1/0"], 2, "Invalid shard '1/0'."),
        (["--from-list", "list"], 2, "A list of images needs a folder for the results."),
        (["in/a.png", "out", "--from-list", "list"], 2, "in/a.png has to be the folder that has all listed images."),
        (["in", "out", "--from-list", "nowhere"], 1, "Cannot read the list nowhere: no such file or directory."),
        (["empty", "out", "--from-list", "list"], 1, "in/a.png is not in empty."),
        (["in/a.png", "o.png", "--fan-out"], 2, "--fan-out needs a folder or several images."),
        (["in/a.png", "o.png", "--shard", "1/3"], 2, "--shard needs a folder or several images."),
        (["in/a.png", "empty", "--shard", "1/3"], 2, "--shard needs a folder or several images."),
        (["in", "out", "--overwrite", "--skip-existing"], 2, "--overwrite and --skip-existing exclude"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_an_invalid_request_is_refused(many: Folders, arguments: list[str], code: int, message: str) -> None:
    many.put("a.png", "b.png")
    (many.cwd / "empty").mkdir()
    (many.cwd / "list").write_text("in/a.png")
    before = many.run_pcsr.files()
    many.run_pcsr("upscale", *arguments, "--model", many.model).failed(code, message)
    assert set(many.run_pcsr.files()) - set(before) <= {"out"}


# Streams.


def piped(many: Folders, command: str, **named: Any) -> "subprocess.CompletedProcess[bytes]":
    program = f"{sys.executable} -m pcsr_cli upscale --model {many.model}"
    return subprocess.run(
        command.replace("pcsr", program), shell=True, cwd=many.cwd, env=many.run_pcsr.env, capture_output=True, **named
    )


@pytest.mark.slow
def test_an_image_passes_from_stdin_to_stdout(many: Folders) -> None:
    many.put("a.png")
    many(source="in/a.png", output="a.png").succeeded()
    done = piped(many, "pcsr - - --format png < in/a.png", check=True)
    assert done.stdout == (many.cwd / "a.png").read_bytes()
    assert b"6x5 -> 24x20" in done.stderr


@pytest.mark.slow
def test_a_closed_pipe_is_not_an_error(many: Folders) -> None:
    many.put("a.png", size=(200, 200))  # more than a pipe holds
    done = piped(many, "(pcsr in/a.png - --format png --quiet; echo $? > code) | head -c 4", check=True)
    assert done.stdout == b"\x89PNG"
    assert done.stderr == b""
    assert (many.cwd / "code").read_text() == "1\n"


@pytest.mark.slow
def test_a_truncated_image_on_stdin_writes_nothing(many: Folders) -> None:
    many.put("a.png", size=(40, 40))
    done = piped(many, "head -c 2000 in/a.png | pcsr - - --format png", check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"damaged" in done.stderr


@pytest.mark.slow
def test_image_data_is_not_written_to_a_terminal(many: Folders) -> None:
    many.put("a.png")
    master, terminal = os.openpty()
    command = [sys.executable, "-m", "pcsr_cli", "upscale", "in/a.png", "-", "--format", "png"]
    done = subprocess.run(
        command, cwd=many.cwd, env=many.run_pcsr.env, stdout=terminal, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(terminal)
    os.close(master)
    assert done.returncode == 2
    assert "Refusing to write image data to a terminal." in done.stderr


# Interruptions.


def complete_results(many: Folders, expected: dict[str, bytes]) -> set[str]:
    """The results without temporary files. Each must be complete."""
    found = many.results()
    results = {name for name in found if not (name.startswith(".pcsr-") and ".part" in name)}
    for name in results:
        assert found[name] == expected[name], f"{name} is incomplete"
    return results


@pytest.fixture
def thirty(many: Folders) -> tuple[Folders, dict[str, bytes], float]:
    """A folder of thirty images, their results, and the seconds that a run takes."""
    many.put(*(f"{number}.png" for number in range(30)), size=(12, 16))
    many(output="whole").succeeded()
    shutil.rmtree(many.cwd / "whole")
    started = time.monotonic()
    many(output="whole").succeeded()
    return many, many.results("whole"), time.monotonic() - started


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_a_killed_run_resumes_exactly(thirty: tuple[Folders, dict[str, bytes], float], kills: int) -> None:
    many, expected, seconds = thirty
    delays = random.Random(6)
    caught = 0
    for _ in range(kills):
        shutil.rmtree(many.cwd / "out", ignore_errors=True)
        ran = many(signalled=(delays.uniform(0.1, 1) * seconds, signal.SIGKILL))
        assert ran.code in {-signal.SIGKILL, 0}
        complete = complete_results(many, expected) if (many.cwd / "out").is_dir() else set()
        caught += 0 < len(complete) < 30
        rest = many("--json").succeeded()
        assert many.results() == expected
        # No complete result was computed again.
        assert totals(rest) == (30 - len(complete), len(complete), 0, 0)
    assert caught or kills == 1


def overwrite(weights: Path, content: bytes) -> None:
    with weights.open("r+b") as file:
        file.write(content)


def replace(weights: Path, content: bytes) -> None:
    weights.with_name("new").write_bytes(content)
    weights.with_name("new").replace(weights)


def truncate(weights: Path, content: bytes) -> None:
    os.truncate(weights, 999)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("change", [overwrite, replace, truncate])
def test_weights_that_change_during_a_run_are_one_set_or_stop_it(
    thirty: tuple[Folders, dict[str, bytes], float], change: Callable[[Path, bytes], None]
) -> None:
    many, _, seconds = thirty
    many.model = many.cwd / "model"
    weights = many.model / "model.safetensors"
    content: list[bytes] = []
    expected: dict[str, dict[str, bytes]] = {}
    for seed in range(2):
        save_folder(tiny_model("fsrcnn", seed=seed), Scales((4.0,)), many.model)
        content.append(weights.read_bytes())
        many(output=str(seed)).succeeded()
        expected[file_sha256(weights)] = many.results(str(seed))
    delays = random.Random(8)
    for _ in range(10):
        shutil.rmtree(many.cwd / "out", ignore_errors=True)
        weights.write_bytes(content[0])
        timer = Timer(delays.uniform(0.1, 0.9) * seconds, change, [weights, content[1]])
        timer.start()
        ran = many()
        timer.join()
        if ran.code == 0:
            (sha256,) = {entry.settings["model"]["sha256"] for entry in many.journal()}
            assert many.results() == expected[sha256]
        else:
            ran.failed(1, "model.safetensors")
            assert not (many.cwd / "out").exists()


@pytest.mark.slow
def test_a_run_killed_again_and_again_completes(thirty: tuple[Folders, dict[str, bytes], float]) -> None:
    many, expected, seconds = thirty
    done: set[str] = set()
    for number in range(40):  # each run has more time, because an image of three killed runs is not tried again
        ran = many(signalled=((0.5 + 0.2 * number) * seconds, signal.SIGKILL))
        assert done <= complete_results(many, expected)
        done = complete_results(many, expected)
        if ran.code == 0:
            break
    assert many.results() == expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)])
@pytest.mark.parametrize("times", [1, pytest.param(8, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_a_stopped_run_leaves_no_half_written_files(
    thirty: tuple[Folders, dict[str, bytes], float], number: signal.Signals, code: int, times: int
) -> None:
    many, expected, seconds = thirty
    delays = random.Random(7)
    stopped = tries = 0
    while stopped < times:
        tries += 1
        assert tries <= 3 * times, "the run ends before the signal"
        shutil.rmtree(many.cwd / "out", ignore_errors=True)
        ran = many(signalled=(delays.uniform(0.2, 0.7) * seconds, number))
        assert ran.code in {code, 0}, ran.stderr
        stopped += ran.code == code
        assert "Traceback" not in ran.stderr
        complete = many.results() if (many.cwd / "out").is_dir() else {}
        assert {name: expected[name] for name in complete} == complete
        if ran.code == code and complete:
            assert "run the same command again to continue" in " ".join(ran.stderr.split())
        assert totals(many("--json").succeeded())[0] == 30 - len(complete)
        assert many.results() == expected


@pytest.mark.parametrize("jobs", ["0", "1"])
def test_a_full_disk_stops_the_run(
    many: Folders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], jobs: str
) -> None:
    many.put("a.png", "b.png", "c.png", "d.png")
    finish = PngEncoder.finish
    finished = []

    def full(self: PngEncoder) -> None:
        finished.append(self)
        if len(finished) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        finish(self)

    monkeypatch.setattr(PngEncoder, "finish", full)
    monkeypatch.chdir(many.cwd)
    # In this process, because only here is the disk full.
    with fails(OutputError, "The disk is full; the run stopped at out/b_x4.png."):
        app(["upscale", "in", "out", "--model", str(many.model), "--jobs", jobs, "--json"], standalone_mode=False)
    assert totals(Ran(1, *capsys.readouterr())) == (1, 0, 1, 2)
    assert list(many.results()) == ["a_x4.png"]


def test_a_file_above_the_size_limit_fails_alone(many: Folders) -> None:
    many.put("a.png", "b.png")
    many.put("large.png", size=(40, 40))
    ran = many("--json", max_file_size=8000)
    assert (ran.code, totals(ran)) == (1, (2, 0, 1, 0))
    assert "large_x4.png cannot be written: file too large" in ran.document["failed"][0]["error"]
    assert sorted(many.results()) == ["a_x4.png", "b_x4.png"]
    assert sorted(entry.name for entry in many.journal()) == ["a_x4.png", "b_x4.png"]
    assert totals(many("--json").succeeded()) == (1, 2, 0, 0)


def test_without_a_journal_there_are_no_results(many: Folders) -> None:
    many.put("a.png", "b.png", "c.png", size=(2, 2))
    ran = many("--quiet", max_file_size=1200)
    assert ran.code == 1
    assert len(re.findall(rf"png: Cannot write the journal out/{HIDDEN}/\S+: file too large\.", ran.stderr)) == 2
    assert [entry.name for entry in many.journal()] == sorted(many.results()) == ["a_x4.png"]
    assert totals(many("--json").succeeded()) == (2, 1, 0, 0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by the address space")
def test_an_image_too_large_for_the_memory_fails_alone(many: Folders) -> None:
    many.put("a.png", "z.png")
    save(many.cwd / "in" / "large.png", np.zeros((6000, 5000, 3), np.uint8))
    ran = many("--json", max_memory=300 * 2**20)
    assert (ran.code, totals(ran)) == (1, (2, 0, 1, 0))
    assert "memory" in ran.document["failed"][0]["error"]
    assert sorted(many.results()) == ["a_x4.png", "z_x4.png"]


# A Ray cluster.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--ray=ray://host:1", "ray"),  # an invalid address, or Ray is not installed
        ("--ray --jobs 2", "--ray and --jobs"),
        ("--ray auto --threads 2", "--ray and --threads"),
        ("--cpus-per-worker 2", "--cpus-per-worker needs --ray."),
    ],
)
def test_options_of_a_cluster_are_checked_before_anything_is_done(many: Folders, options: str, message: str) -> None:
    ran = many.run_pcsr("upscale", "in", "out", *options.split())
    assert message.lower() in " ".join(ran.failed(2).stderr.lower().split())
    assert not (many.run_pcsr.cwd / "out").exists()


def test_a_cluster_needs_no_address() -> None:
    completed = complete_values(["in", "--ray", "out", "--wrap", "x", "--ray", "10.0.0.1:6379", "--ray"])
    assert completed == ["in", "--ray=local", "out", "--wrap", "x", "--ray", "10.0.0.1:6379", "--ray=local"]
