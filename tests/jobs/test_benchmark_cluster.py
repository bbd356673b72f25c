"""The simulation of large runs keeps to the laws that every schedule has."""

from dataclasses import replace

import pytest

from benchmarks.cluster import Costs, main, most_workers, shared_seconds, simulate

COSTS = Costs()
IDEAL = replace(COSTS, start=0.0, lifetime=float("inf"), listed=0.0)

both = pytest.mark.parametrize("shards", [False, True])


@both
def test_one_worker_takes_the_sum_of_the_times(shards: bool) -> None:
    run = simulate(10_000, 1, shards, IDEAL)
    assert run.seconds == pytest.approx(run.computed)
    assert run.computed == pytest.approx(10_000 * COSTS.image, rel=0.01)
    assert run.segments == 1


@both
@pytest.mark.parametrize("workers", [1, 7, 100, 400])
@pytest.mark.parametrize("images", [5, 100_000])
def test_no_run_is_faster_than_its_workers_or_the_shared_step(shards: bool, workers: int, images: int) -> None:
    for costs in (COSTS, IDEAL, replace(COSTS, lifetime=600.0)):
        run = simulate(images, workers, shards, costs)
        assert 0 < run.efficiency <= 1 + 1e-9
        assert run.seconds >= images * shared_seconds(costs, workers, shards)


@both
def test_the_rate_of_the_shared_step_is_the_ceiling(shards: bool) -> None:
    most = most_workers(IDEAL, shards)
    few, many = (simulate(1_000_000, count, shards, IDEAL) for count in (most // 2, most * 2))
    assert few.efficiency > 0.95
    assert many.images / many.seconds == pytest.approx(1 / shared_seconds(IDEAL, most * 2, shards), rel=0.05)


@both
def test_lost_workers_cost_time_and_segments(shards: bool) -> None:
    calm, lossy = (simulate(100_000, 10, shards, replace(COSTS, lifetime=life)) for life in (float("inf"), 600.0))
    assert calm.segments == 10 < lossy.segments
    assert calm.seconds < lossy.seconds
    assert calm.journal == lossy.journal == 100_000 * COSTS.line


def test_a_seed_repeats_a_run() -> None:
    assert simulate(50_000, 20, True, COSTS, 1) == simulate(50_000, 20, True, COSTS, 1)
    assert simulate(50_000, 20, True, COSTS, 1) != simulate(50_000, 20, True, COSTS, 2)


def test_the_tables_are_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("benchmarks.cluster.IMAGES", (1000,))
    monkeypatch.setattr("sys.argv", ["cluster"])
    main()
    text = capsys.readouterr().out
    assert "Ray: the shared step is always busy from 311 workers" in text
    rows = [line.split() for line in text.splitlines() if line.lstrip().startswith("0.001")]
    assert [row[1] for row in rows] == ["1", "10", "100", "300", "1,000"] * 2
