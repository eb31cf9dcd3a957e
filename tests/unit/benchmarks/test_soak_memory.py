"""The soak's verdict on memory: what counts as growth, and whose."""

from __future__ import annotations

from benchmarks.soak.memory import Growth, Memory
from deployments.processes import Process

LENGTH_S = 600


def growth_of(kind: str, mib_at: dict[int, float]) -> Growth:
    """Of a process that takes so much from these seconds on."""
    process = Process(1, "0")
    memory = Memory({}, {process: (kind, "ray::ServeReplica:polydraft:router")})
    memory.samples[process] = [
        (second, next(mib for since, mib in reversed(mib_at.items()) if since <= second))
        for second in range(0, LENGTH_S, 2)
    ]
    growth = memory.growth(LENGTH_S)
    assert growth is not None
    return growth[0]


def test_what_grows_after_the_warm_up_is_too_much() -> None:
    growth = growth_of("router", {0: 50.0, 140: 100.0, 500: 106.0})

    assert (growth.before_mib, growth.after_mib) == (100.0, 106.0)
    assert growth.is_too_much


def test_caches_that_fill_in_the_warm_up_and_peaks_in_between_are_no_growth() -> None:
    assert not growth_of("router", {0: 50.0, 140: 100.0, 300: 200.0, 320: 104.0}).is_too_much


def test_growth_of_rays_own_processes_is_told_and_not_judged() -> None:
    growth = growth_of("ray", {0: 50.0, 500: 100.0})

    assert growth.share == 1.0
    assert not growth.is_too_much


def test_so_short_a_soak_that_it_is_all_warm_up_is_not_judged() -> None:
    assert Memory({}, {}).growth(70.0) is None
