"""What makes a target's own drafts: the file of sublayers, and where a draft ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.drafters import DrafterConfig, create_drafter
from engine.drafters.base import DraftSession, DraftVerdict, DraftWork
from engine.drafters.early_exit import AdaptiveExit
from engine.drafters.layer_skip import LayerSkipDrafter
from engine.drafters.skip_file import ChosenSet, SkipFile, read_skip_file
from engine.sampling import SamplingParams
from engine.skipping import SkipSet
from tests.fakes_drafter import VOCAB_SIZE
from tests.lone_target import lone_target, write_skip_file


def test_the_threshold_follows_acceptance_as_computed_by_hand() -> None:
    exit_rule = AdaptiveExit(0.6)
    trace = []
    # (accepted, drafted, allowed): all right and no longer allowed; all right but short; two of four; none; all right
    for outcome in ((4, 4, 4), (3, 3, 12), (2, 4, 12), (0, 1, 12), (2, 2, 12)):
        exit_rule.observe(*outcome)
        trace.append((exit_rule.acceptance, exit_rule.threshold))

    # Acceptance: half of what was, half of what came. Threshold: a tenth of a hundredth up, down, or as it was.
    acceptances, thresholds = zip(*trace, strict=True)
    assert acceptances == pytest.approx((0.95, 0.975, 0.7375, 0.36875, 0.684375))
    assert thresholds == pytest.approx((0.6, 0.599, 0.6, 0.601, 0.602))


def test_rounds_without_a_draft_teach_nothing_and_a_threshold_of_none_stays() -> None:
    exit_rule, never = AdaptiveExit(0.6), AdaptiveExit(0.0)

    exit_rule.observe(0, 0, 12)
    never.observe(0, 8, 8)

    assert (exit_rule.threshold, exit_rule.acceptance) == (0.6, 0.9)
    assert never.threshold == 0.0
    assert not never.stops_at(1e-9)


def opened(exit_confidence: float, tmp_path: Path) -> LayerSkipDrafter:
    """With a session 0."""
    config = DrafterConfig(
        "layer_skip", VOCAB_SIZE, skip_file=write_skip_file(tmp_path), exit_confidence=exit_confidence
    )
    drafter, target = create_drafter(config), lone_target()
    assert isinstance(drafter, LayerSkipDrafter)
    drafter.attach(target)
    target.sequences[0] = [3, 8, 8, 3, 5]
    drafter.open([DraftSession(0, (3, 8, 8, 3, 5), SamplingParams())])
    return drafter


def chain(exit_confidence: float, tmp_path: Path) -> tuple[int, ...]:
    (tree,) = opened(exit_confidence, tmp_path).propose([DraftWork(0, 8)])
    return tree.token_ids


def test_only_verified_tokens_move_the_threshold(tmp_path: Path) -> None:
    drafter = opened(0.01, tmp_path)
    for num_accepted, num_verified, acceptance in ((0, 0, 0.9), (2, 2, 0.95), (0, None, 0.475)):
        drafter.propose([DraftWork(0, 8)])
        drafter.observe([DraftVerdict(0, (3,), num_accepted, num_verified=num_verified)])
        assert drafter.exit_rule.acceptance == pytest.approx(acceptance)
    drafter.observe([DraftVerdict(0, (3,), 0)])
    assert drafter.exit_rule.acceptance == pytest.approx(0.475), "a round without a proposal says nothing"


def test_the_token_at_which_a_draft_ends_stays_in_it(tmp_path: Path) -> None:
    assert len(chain(0.0, tmp_path)) == 8
    assert chain(1.0, tmp_path) == chain(0.0, tmp_path)[:1]


def test_each_language_has_its_set_and_the_others_share_one(tmp_path: Path) -> None:
    german, other = SkipSet.of([0], [1, 5]), SkipSet.of([2])
    written = SkipFile("abc", 6, ChosenSet(other, {"speedup": 1.2}), {"de": ChosenSet(german)})
    written.write(tmp_path / "layer_skip.json")

    found = read_skip_file(tmp_path / "layer_skip.json")

    assert found == written
    assert (found.set_for("de"), found.set_for("fr"), found.set_for("")) == (german, other, other)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 9}, "format 9 is not 1"),
        ({"num_layers": 1}, "layer 1 is none of the model's 1"),
        ({"all": {"attention": ["x"], "mlp": []}}, "invalid literal"),
        ({"all": {"attention": []}}, "'mlp' is missing"),
        ({"languages": []}, "no attribute 'items'"),
    ],
)
def test_a_broken_file_says_what_is_wrong_and_what_makes_one(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    path = write_skip_file(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(ValueError, match=words) as refused:
        read_skip_file(path)

    assert str(path) in str(refused.value)
    assert "`polydraft tune layer-skip`" in str(refused.value)


def test_a_missing_file_is_told_with_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"layer_skip.json is not there; make one with `polydraft tune layer-skip`"):
        create_drafter(DrafterConfig("layer_skip", VOCAB_SIZE, skip_file=tmp_path / "layer_skip.json"))
    with pytest.raises(ValueError, match="polydraft tune layer-skip"):
        create_drafter(DrafterConfig("layer_skip", VOCAB_SIZE))


def test_a_file_of_a_target_with_other_layers_is_refused() -> None:
    drafter = LayerSkipDrafter(SkipFile("abc", 40, ChosenSet(SkipSet.of([1]))), VOCAB_SIZE)

    with pytest.raises(ValueError, match="a target of 40 layers, this one has 2"):
        drafter.attach(lone_target())
