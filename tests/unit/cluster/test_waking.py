"""Which resting drafters are asked for."""

from __future__ import annotations

from cluster.waking import PLAIN_RETRY_S, DrafterStreams, Waking


def test_streams_are_counted_at_their_most_since_the_last_look() -> None:
    streams = DrafterStreams()
    with streams.opened("de"), streams.opened("de"), streams.opened(None):
        pass
    with streams.opened("fr"):
        assert streams.peaks() == {"de": 2, "fr": 1}
        assert dict(streams.peaks()) == {"de": 0, "fr": 1}


def test_a_drafter_is_asked_for_while_it_is_not_up_and_enough_streams_would_use_it() -> None:
    waking = Waking()
    thresholds = {"de": 2, "fr": 1}

    assert waking.wanted(thresholds, {"de": 1, "fr": 0, "ja": 5}, (), True, 0.0) == set()
    assert waking.wanted(thresholds, {"de": 2, "fr": 1}, (), True, 1.0) == {"de", "fr"}
    assert waking.wanted(thresholds, {"de": 2, "fr": 1}, ("de",), True, 2.0) == {"fr"}


def test_while_drafts_do_not_pay_it_is_tried_now_and_then() -> None:
    waking = Waking()

    assert waking.wanted({"de": 1}, {"de": 9}, (), False, 0.0) == {"de"}
    assert waking.wanted({"de": 1}, {"de": 9}, ("de",), False, 10.0) == set()
    assert waking.wanted({"de": 1}, {"de": 9}, (), False, 11.0) == set()
    assert waking.wanted({"de": 1}, {"de": 9}, (), True, 12.0) == {"de"}
    assert waking.wanted({"de": 1}, {"de": 9}, (), False, 10.0 + PLAIN_RETRY_S) == {"de"}
