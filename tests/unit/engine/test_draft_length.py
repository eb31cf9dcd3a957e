"""Draft lengths by goodput: the planted costs are found, and the length follows them."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from engine.costs import StepCost, WaitCost
from engine.draft_length import MAX_NODES, Drafting, DraftLengths
from engine.sampling import SamplingParams
from engine.session import LocalDrafting, OpenRequest, Sequence

PER_CONTEXT_S, PER_STEP_S = 1e-6, 5e-3


def drafting(num_sessions: int, max_nodes: int = 8) -> list[Drafting]:
    return [Drafting("de", max_nodes, num_nodes=max_nodes) for _ in range(num_sessions)]


def simulate(
    lengths: DraftLengths,
    sessions: list[Drafting],
    per_row_s: float,
    wait_s: float,
    acceptance: float,
    steps: int,
    drafting_slowdown: float = 1.0,
    wait_per_node_s: float = 0.0,
    noise: random.Random | None = None,
    comes_and_goes: bool = False,
) -> list[int]:
    """Rounds of sessions whose chains are accepted token by token with one probability; the lengths chosen.

    With drafts, so many times the time of a step passes from one to the next. With noise times vary by a quarter, the
    machine's pace drifts, and one step in a hundred takes four times as long. A last session that comes and goes is in
    every second step only.
    """
    everyone = sessions
    rng = noise or random.Random(0)
    pace = 1.0
    chosen = []
    for step in range(steps):
        sessions = everyone[:-1] if comes_and_goes and step % 2 else everyone
        context = 100 * len(sessions)
        num_tokens = len(sessions)
        lengths.choose(sessions, 0, context)
        num_rows = len(sessions) + sum(session.num_nodes for session in sessions)
        longest = max(session.num_nodes for session in sessions)
        waited_s = wait_s + wait_per_node_s * longest if longest else 0.0
        if longest:
            lengths.observe_wait({"de"}, longest, waited_s)
        for session in sessions:
            accepted = 0
            while accepted < session.num_nodes and rng.random() < acceptance:
                accepted += 1
            num_tokens += accepted
            if session.num_nodes:
                lengths.observe_round(session, session.num_nodes, range(accepted))
        step_s = PER_STEP_S + per_row_s * num_rows + PER_CONTEXT_S * context
        if noise is not None:
            pace = min(max(pace * noise.lognormvariate(0, 0.03), 0.7), 1.5)
            step_s *= pace * noise.lognormvariate(0, 0.25) * (4.0 if noise.random() < 0.01 else 1.0)
        passed_s = (step_s + waited_s) * drafting_slowdown if longest else step_s
        lengths.observe_step(num_rows, context, step_s)
        lengths.observe_tokens(num_tokens, passed_s)
        chosen.append(sessions[0].num_nodes)
    return chosen


def goodput(
    num_nodes: int, per_row_s: float, wait_s: float, acceptance: float, num_sessions: int = 1, per_node_s: float = 0.0
) -> float:
    tokens = num_sessions * sum(acceptance**i for i in range(num_nodes + 1))
    rows_s = per_row_s * num_sessions * (num_nodes + 1)
    waited_s = wait_s + per_node_s * num_nodes if num_nodes else 0.0
    return tokens / (PER_STEP_S + rows_s + PER_CONTEXT_S * 100 * num_sessions + waited_s)


def test_planted_costs_are_recovered() -> None:
    rng = random.Random(1)
    cost = StepCost()
    for _ in range(400):
        rows, context = rng.randrange(1, 60), rng.randrange(50, 5_000)
        seconds = 4e-3 + 3e-4 * rows + 2e-7 * context
        cost.observe(rows, context, seconds * rng.uniform(0.97, 1.03) * (10.0 if rng.random() < 0.02 else 1.0))

    per_context_s, per_row_s, per_step_s = cost.fit()

    assert per_step_s == pytest.approx(4e-3, rel=0.1)
    assert per_row_s == pytest.approx(3e-4, rel=0.05)
    assert per_context_s == pytest.approx(2e-7, rel=0.2)


def test_steps_that_are_all_alike_do_not_unlearn_the_cost_of_a_row() -> None:
    cost = StepCost()
    for step in range(200):
        num_rows, num_context = 1 + step % 6, 100 + 7 * step
        cost.observe(num_rows, num_context, 4e-3 + 3e-4 * num_rows + 1e-6 * num_context)
    for _ in range(20_000):
        cost.observe(1, 100, 4.4e-3)

    _, per_row_s, per_step_s = cost.fit()

    assert per_row_s == pytest.approx(3e-4, rel=0.1)
    assert per_step_s == pytest.approx(4e-3, rel=0.1)


def test_waits_that_were_nothing_and_grow_become_known() -> None:
    cost = WaitCost()
    for wait_s, blocks in ((0.0, 100), (8e-3, 300)):
        for block in range(blocks):
            cost.observe(1 + block % 4, wait_s)
            cost.fit()

    per_node_s, per_block_s = cost.fit()

    assert per_block_s + 3 * per_node_s == pytest.approx(8e-3, rel=0.1)


def test_a_machine_that_becomes_ten_times_slower_is_known_to_be() -> None:
    cost = StepCost()
    for times, steps in ((1.0, 100), (10.0, 100)):
        for step in range(steps):
            cost.observe(1 + step % 6, 0, times * (4e-3 + 3e-4 * (1 + step % 6)))

    _, per_row_s, per_step_s = cost.fit()

    assert cost.pace * (per_step_s + per_row_s) == pytest.approx(4.3e-2, rel=0.1)
    assert per_row_s / per_step_s == pytest.approx(3 / 40, rel=0.2)


@pytest.mark.parametrize(
    ("per_row_s", "wait_s", "acceptance"),
    [(1e-5, 1e-3, 0.8), (3e-4, 2e-3, 0.7), (1e-3, 1e-3, 0.6), (1e-4, 4e-3, 0.3), (3e-3, 2e-3, 0.5)],
)
def test_the_length_is_that_of_the_best_goodput(per_row_s: float, wait_s: float, acceptance: float) -> None:
    lengths, sessions = DraftLengths(), drafting(1)

    chosen = simulate(lengths, sessions, per_row_s, wait_s, acceptance, steps=1_500)

    settled = max(set(chosen[500:]), key=chosen[500:].count)
    rates = [goodput(k, per_row_s, wait_s, acceptance) for k in range(9)]
    assert rates[settled] >= 0.95 * max(rates), (settled, rates)


def test_blocks_that_take_longer_to_draft_the_longer_they_are_are_short_from_the_first_answers_on() -> None:
    """A drafter in the target's step: for eight nodes it takes five milliseconds, and nothing is gained."""
    per_row_s, wait_s, per_node_s, acceptance = 5e-4, 2e-4, 6e-4, 0.6
    rates = [goodput(k, per_row_s, wait_s, acceptance, per_node_s=per_node_s) for k in range(9)]
    assert rates[8] < rates[0] < 0.8 * max(rates)

    chosen = simulate(DraftLengths(), drafting(1), per_row_s, wait_s, acceptance, steps=200, wait_per_node_s=per_node_s)

    passed_s = [1 / rates[k] for k in chosen[20:]]
    assert fmean(passed_s) <= 1.05 / max(rates), "seconds a token, but for the first steps, which find out"


def test_a_noisy_machine_keeps_few_from_drafting_where_it_pays() -> None:
    per_row_s, wait_s, per_node_s, acceptance = 5e-4, 8e-4, 4e-4, 0.56
    rates = [goodput(k, per_row_s, wait_s, acceptance, per_node_s=per_node_s) for k in range(9)]
    assert 1.2 < max(rates) / rates[0] < 1.3

    plain_shares = []
    for seed in range(8):
        lengths, noise = DraftLengths(), random.Random(seed)
        chosen = simulate(
            lengths,
            drafting(1),
            per_row_s,
            wait_s,
            acceptance,
            steps=1_000,
            wait_per_node_s=per_node_s,
            noise=noise,
        )
        plain_shares.append(chosen.count(0) / len(chosen))

    assert fmean(plain_shares) <= 0.15, plain_shares


def test_the_first_block_of_a_new_session_is_as_long_as_its_drafters_last() -> None:
    lengths, sessions = DraftLengths(), drafting(1)
    assert lengths.first_length("de", 8) == 8

    settled = simulate(lengths, sessions, 8e-4, 1e-4, 0.5, steps=300)[-1]

    assert 0 < settled < 8
    assert lengths.first_length("de", 8) == settled
    assert lengths.first_length("de", 1) == 1
    assert lengths.first_length("fr", 8) == 8, "nothing is known of another"


def test_lengths_fall_to_zero_as_the_batch_grows() -> None:
    """Compute-bound: a row costs a fifth of a step."""
    settled = []
    for num_sessions in (1, 2, 4, 8, 32):
        chosen = simulate(DraftLengths(), drafting(num_sessions), 1e-3, 5e-4, 0.7, steps=300)
        settled.append(max(set(chosen[150:]), key=chosen[150:].count))

    assert settled == sorted(settled, reverse=True)
    assert settled[0] > 0
    assert settled[-1] == 0


def test_zero_is_tried_again_and_left_when_drafts_pay() -> None:
    lengths, sessions = DraftLengths(), drafting(1)
    assert simulate(lengths, sessions, 1e-3, 2e-2, 0.5, steps=300)[-1] == 0

    chosen = simulate(lengths, sessions, 1e-5, 1e-3, 0.9, steps=2_000)

    assert chosen[-1] > 0


def test_drafts_that_go_on_not_paying_are_tried_ever_more_rarely() -> None:
    lengths, sessions = DraftLengths(), drafting(1)
    simulate(lengths, sessions, 1e-3, 2e-2, 0.5, steps=2_000)

    chosen = simulate(lengths, sessions, 1e-3, 2e-2, 0.5, steps=8_000)

    assert 0 < sum(length > 0 for length in chosen) <= 0.005 * len(chosen)


def test_a_hidden_cost_of_drafts_is_learnt_within_a_few_windows() -> None:
    """The model alone would draft: it promises 1.2 times the tokens a second, and the truth is 0.8 times."""
    chosen = simulate(DraftLengths(), drafting(1), 1e-4, 3e-3, 0.6, steps=400, drafting_slowdown=1.7)

    assert sum(length > 0 for length in chosen) <= 0.3 * len(chosen)


def test_what_the_model_does_not_know_is_measured() -> None:
    """Drafters that take the target's processor: steps are no longer, but fewer."""
    assert simulate(DraftLengths(), drafting(4), 1e-5, 1e-3, 0.6, steps=600)[-1] > 0

    chosen = simulate(DraftLengths(), drafting(4), 1e-5, 1e-3, 0.6, steps=600, drafting_slowdown=4.0)

    assert sum(length > 0 for length in chosen[200:]) <= 0.05 * len(chosen[200:])


def test_a_session_that_fares_badly_gets_shorter_blocks() -> None:
    lengths, sessions = DraftLengths(), drafting(2)
    good, bad = sessions
    for _ in range(400):
        lengths.choose(sessions, 0, 200)
        lengths.observe_round(good, good.num_nodes, range(good.num_nodes))
        lengths.observe_round(bad, bad.num_nodes, range(0))
        num_rows = 2 + good.num_nodes + bad.num_nodes
        step_s = PER_STEP_S + 8e-4 * num_rows
        lengths.observe_step(num_rows, 200, step_s)
        lengths.observe_tokens(num_rows, step_s)

    assert bad.num_nodes < good.num_nodes


def test_fixed_lengths_are_what_requests_allow() -> None:
    chosen = simulate(DraftLengths(adapts=False), drafting(32), 1e-3, 5e-2, 0.1, steps=50)

    assert set(chosen) == {8}


def test_a_request_that_allows_more_nodes_than_are_measured_gets_no_more() -> None:
    for local in (None, LocalDrafting("lookup", 10 * MAX_NODES)):
        request = OpenRequest(1, (5, 6), 2, SamplingParams(), 4, local=local, max_draft_nodes=10 * MAX_NODES)

        session = Sequence.open(request, 0, 0.0).drafting

        assert session.max_nodes == MAX_NODES
        assert simulate(DraftLengths(), [session], 1e-5, 1e-3, 0.9, steps=20)[-1] <= MAX_NODES


def test_what_may_not_draft_is_left_alone() -> None:
    session = Drafting("", 0)

    DraftLengths().choose([session], 3, 100)

    assert session.num_nodes == 0


def test_drafts_that_do_not_pay_are_found_out_also_where_sessions_come_and_go() -> None:
    """One that came back with the length of its last step drafted on where all were to decode plainly."""
    chosen = simulate(DraftLengths(), drafting(16), 1e-4, 1e-4, 0.8, 600, drafting_slowdown=4.0, comes_and_goes=True)

    assert chosen[-400:].count(0) > 300
