"""The simulator of scaling policies: traffic that a seed fixes, machines that start and end when they should."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.autoscale.languages import LANGUAGES
from benchmarks.autoscale.service_model import rounds
from benchmarks.autoscale.tiers import Replicas
from benchmarks.autoscale.traffic import DAY_S, REPORTING_SEEDS, TUNING_SEEDS, daily_curve, generate


def test_a_seed_fixes_the_day_and_its_rate() -> None:
    day, same, other = generate(1, 16.0), generate(1, 16.0), generate(2, 16.0)

    assert (day.arrivals_TLK == same.arrivals_TLK).all()
    assert (day.arrivals_TLK != other.arrivals_TLK).any()
    assert day.num_requests / DAY_S == pytest.approx(16.0, rel=0.1)
    assert not set(TUNING_SEEDS) & set(REPORTING_SEEDS)


def test_each_language_sleeps_in_its_own_time_zone_and_rare_ones_are_silent_for_hours() -> None:
    peaks = {language.tag: daily_curve(language).argmax() // 360 for language in LANGUAGES}
    by_hour_L = generate(3, 220.0).arrivals_TLK.sum(axis=2).reshape(24, -1, len(LANGUAGES)).sum(axis=1)

    assert (peaks["de"] - peaks["ja"]) % 24 == 8
    assert all((by_hour_L[:, number] == 0).any() for number, one in enumerate(LANGUAGES) if one.is_rare)


def test_replicas_start_after_their_time_and_those_that_start_end_first() -> None:
    tier = Replicas(np.array([[2.0]]), start_s=30, idle_s=20)
    tier.set(np.array([[5.0]]))
    seen = []
    for wanted in (5, 4, 4, 4, 1, 1, 1):
        ended = tier.set(np.array([[float(wanted)]]))
        seen.append((tier.up.item(), tier.paid.item(), ended.item()))
        tier.pass_bin()

    assert seen == [(2, 5, 0), (2, 4, 0), (2, 4, 0), (4, 4, 0), (1, 4, 3), (1, 4, 0), (1, 1, 0)]


def test_drafters_make_rounds_bring_more_and_too_few_of_them_are_late() -> None:
    sessions_SL = np.full((3, len(LANGUAGES)), 20.0)
    drafters_SL = np.stack([np.full(len(LANGUAGES), number) for number in (0.0, 0.05, 1.0)])
    now = rounds(sessions_SL, np.full(3, 5e5), np.full(3, 20.0), drafters_SL)
    plain, few, enough = (now.tokens_SL.mean(axis=1) / now.round_s).tolist()

    assert plain <= few < enough
    assert now.late_SL[2].max() == 0 < now.late_SL[1].min()
