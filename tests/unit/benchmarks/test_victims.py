"""Who counts as up, told by what Ray makes of the titles of its processes."""

from __future__ import annotations

import pytest

from benchmarks.chaos.victims import Kind

DRAFTERS = Kind(["ray::ServeReplica:polydraft:drafter-de"], 1)


@pytest.mark.parametrize(
    ("title", "is_up"),
    [
        ("ray::ServeReplica:polydraft:drafter-de", True),
        ("ray::ServeReplica:polydraft:drafter-de.check_health", True),  # it was counted as gone while asked for health
        ("ray::ServeReplica:polydraft:drafter-de.initialize_and_get_metadata", False),
        ("ray::ServeReplica:polydraft:drafter-del", False),
        ("", False),
    ],
)
def test_a_replica_is_up_once_it_is_made_and_whatever_it_does_then(title: str, is_up: bool) -> None:
    assert DRAFTERS.includes(title) == is_up
