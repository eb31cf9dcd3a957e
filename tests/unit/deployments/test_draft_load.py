"""What a drafter tells of its load."""

from __future__ import annotations

from deployments.draft_load import DraftLoad


def test_signals_are_of_the_time_since_they_were_last_told() -> None:
    now = [0.0]
    load = DraftLoad(lambda: now[0])
    load.opened(1)
    load.opened(2)
    for session, late in ((1, False), (2, True), (1, False)):
        load.asked(session, late=late)
    now[0] = 1.0
    load.worked(0.5)
    now[0] = 2.0

    assert load.signals(2) == {"sessions": 2, "asking": 2, "busy": 0.25, "asked": 3, "late": 1}
    assert load.signals(2) == {"sessions": 2, "asking": 0, "busy": 0, "asked": 0, "late": 0}


def test_short_sessions_one_after_the_other_are_one_at_a_time() -> None:
    load = DraftLoad(lambda: 0.0)
    for session in range(5):
        load.opened(1)
        load.asked(session, late=False)

    assert load.signals(0)["asking"] == 1
