"""What is promoted."""

from __future__ import annotations

import pytest

from training.online.acceptance import Acceptance
from training.online.gate import judge


@pytest.mark.parametrize(
    ("shadow", "is_promoted"), [(0.7, True), (0.65, True), (0.645, True), (0.644, False), (0.0, False)]
)
def test_a_shadow_may_be_worse_by_the_tolerance_and_no_more(shadow: float, is_promoted: bool) -> None:
    judgement = judge(Acceptance(0.65, 2.1, 900), Acceptance(shadow, 2.0, 900), tolerance=0.005)

    assert judgement.is_promoted is is_promoted
    assert f"{shadow:.4f} against 0.6500" in judgement.reason
