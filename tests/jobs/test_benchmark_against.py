"""Two checkouts are timed side by side."""

from pathlib import Path

import pytest
from PIL import Image

from benchmarks import against


@pytest.mark.slow
def test_a_checkout_takes_about_the_time_of_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(against, "CASES", {"x2": (2, "Threshold")})
    Image.new("RGB", (24, 16)).save(tmp_path / "image.png")
    rows = against.compare(against.HERE, "builtin", tmp_path / "image.png", threads=1, runs=3)
    assert list(rows) == ["x2"] and 0.1 < rows["x2"]["of the least"] < 10


def test_a_folder_without_pcsr_is_not_compared(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        against.compare(tmp_path, "builtin", tmp_path / "image.png", threads=1, runs=1)
    assert f"{tmp_path} is not a checkout of pcsr." in capfd.readouterr().err
