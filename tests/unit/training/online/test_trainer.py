"""From corrections to versions: what is learned is promoted, what is poisoned is not, tenants learn alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.unit.training.online.conftest import MakeTranscripts
from training.drafter import load_drafter
from training.online.acceptance import acceptance
from training.online.settings import LearningSettings
from training.online.trainer import DrafterTrainer, TenantTrainer


@pytest.fixture
def trainer(base: Path, tmp_path: Path, settings: LearningSettings) -> TenantTrainer:
    torch.manual_seed(0)
    return TenantTrainer(base, tmp_path / "versions", settings)


def work_off(trainer: TenantTrainer) -> None:
    while trainer.work():
        pass


def test_corrections_become_a_better_version(trainer: TenantTrainer, make_transcripts: MakeTranscripts) -> None:
    unseen = make_transcripts(30)
    before = acceptance(*load_drafter(trainer.store.path(0)), unseen)

    for _ in range(20):
        trainer.add(make_transcripts(20))
        work_off(trainer)

    status = trainer.status()
    assert status.current == len(status.versions) == status.counts.promotions > 1
    per_gate, num_judgements = trainer._settings.updates_per_gate, status.current + status.counts.refusals
    assert 0 <= status.counts.updates - per_gate * num_judgements < per_gate
    after = acceptance(*load_drafter(trainer.store.path(status.current)), unseen)
    assert after.agreement > before.agreement + 0.5
    assert status.versions[-1].agreement > status.versions[0].parent_agreement


def test_after_a_shift_of_language_the_drafter_recovers(
    trainer: TenantTrainer, base: Path, tmp_path: Path, settings: LearningSettings, make_transcripts: MakeTranscripts
) -> None:
    """Within 96 updates to 90 % of the tokens a round of a drafter that learned the new language alone."""
    unseen = make_transcripts(30, step=7)
    offline = TenantTrainer(base, tmp_path / "offline", settings)
    for _ in range(40):
        offline.add(make_transcripts(20, step=7))
        work_off(offline)
    for _ in range(20):
        trainer.add(make_transcripts(20, step=2))
        work_off(trainer)

    def tokens_per_round(trained: TenantTrainer) -> float:
        return acceptance(*load_drafter(trained.store.path(trained.store.current)), unseen).tokens_per_round

    wanted, before = 0.9 * tokens_per_round(offline), trainer.status().counts.updates
    assert tokens_per_round(trainer) < 0.5 * wanted
    while tokens_per_round(trainer) < wanted and trainer.status().counts.updates < before + 96:
        trainer.add(make_transcripts(20, step=7))
        work_off(trainer)

    assert tokens_per_round(trainer) >= wanted > 3


def test_a_poisoned_shadow_is_not_promoted(trainer: TenantTrainer, make_transcripts: MakeTranscripts) -> None:
    for _ in range(20):
        trainer.add(make_transcripts(20))
        work_off(trainer)
    good = trainer.status()
    trainer.add(make_transcripts(20))
    assert trainer.work()
    learner = trainer._learner
    assert learner is not None
    with torch.no_grad():
        for model in (learner.model, learner.average):
            for weight in model.parameters():
                weight.normal_()
    trainer._num_unjudged = trainer._settings.updates_per_gate

    assert trainer.work()

    assert trainer.status().current == good.current
    assert trainer.status().counts.refusals == good.counts.refusals + 1
    assert trainer.status().last_judgement.startswith("worse: ")
    assert trainer._learner is not learner  # the next one begins with the current version


def test_a_shadow_that_diverges_is_thrown_away(trainer: TenantTrainer, make_transcripts: MakeTranscripts) -> None:
    trainer.add(make_transcripts(20))
    assert trainer.work()
    learner = trainer._learner
    assert learner is not None
    with torch.no_grad():
        learner.model.model.norm.weight.fill_(torch.nan)

    assert trainer.work()

    assert trainer._learner is not learner
    assert (trainer.status().current, trainer.status().counts.refusals) == (0, 1)


def test_nothing_is_promoted_on_few_held_out_answers(trainer: TenantTrainer, make_transcripts: MakeTranscripts) -> None:
    learned = [t for t in make_transcripts(300) if not trainer._buffer.is_held_out(t)]

    trainer.add(learned)
    work_off(trainer)
    trainer._num_unjudged = trainer._settings.updates_per_gate
    work_off(trainer)

    assert trainer.status().counts.updates > 0
    assert trainer.status().current == 0


def test_after_a_rollback_only_newer_answers_judge(trainer: TenantTrainer, make_transcripts: MakeTranscripts) -> None:
    while trainer.store.current < 2:
        trainer.add(make_transcripts(20))
        work_off(trainer)

    assert trainer.roll_back(None) == 1
    work_off(trainer)

    assert trainer.store.current == 1  # what was promoted is not promoted again at once
    assert trainer._buffer.held_out is None and not trainer._buffer.learned
    while trainer.store.current == 1:
        trainer.add(make_transcripts(20))
        work_off(trainer)
    assert (trainer.store.current, trainer.status().versions[-1].parent) == (3, 1)


def test_updates_that_cannot_be_made_in_time_are_not_owed(
    trainer: TenantTrainer, make_transcripts: MakeTranscripts
) -> None:
    trainer.add(make_transcripts(200))

    work_off(trainer)

    assert trainer.status().counts.updates == trainer._settings.updates_per_batch


def test_tenants_learn_from_their_own_answers_alone(
    base: Path, tmp_path: Path, settings: LearningSettings, make_transcripts: MakeTranscripts
) -> None:
    torch.manual_seed(0)
    trainer = DrafterTrainer(base, tmp_path / "versions", ["acme", "other"], settings)
    for _ in range(10):
        trainer.add({"acme": make_transcripts(20), "stranger": make_transcripts(20)})
        while trainer.work():
            pass

    assert trainer.current()["acme"] > 0
    assert trainer.current()["other"] == 0
    assert trainer.status()["other"].counts.positions_taken == 0
    with pytest.raises(ValueError, match=r"'stranger' does not adapt.*acme, other"):
        trainer.roll_back("stranger", None)
