"""The loss counts overruled places by the target's law and others by their token; updates make the drafter agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.corrections import Correction, LikelyTokens
from tests.fakes_drafter import CONTEXT, VOCAB_SIZE
from tests.tiny_targets import write_tiny_target
from tests.unit.training.online.conftest import Drafter, MakeTranscripts
from training.drafter import EMBEDDING, draft_logits, load_drafter
from training.online import learner as learner_module
from training.online.acceptance import acceptance
from training.online.learner import Diverged, Learner
from training.online.replay import Transcript
from training.online.settings import LearningSettings


def test_the_loss_is_the_divergence_at_the_rows_before_the_overruled_places(
    drafter: Drafter, settings: LearningSettings, make_transcripts: MakeTranscripts
) -> None:
    model, vocabulary = drafter
    first, second = make_transcripts(2)
    head = list(vocabulary.token_ids[: vocabulary.num_head_tokens])
    likely = LikelyTokens((head[3], head[5], 7), (0.6, 0.3, 0.1))  # the drafter cannot propose token 7
    # The second's last place is that of the end of sequence.
    transcripts = [
        replace(first, corrections=(Correction(5, likely), Correction(9, likely))),
        replace(second, corrections=(Correction(len(second.token_ids), likely),)),
    ]

    loss = Learner(model, vocabulary, replace(settings, other_places=0.0)).loss(transcripts) / 3

    expected = []
    for transcript, place in ((first, 5), (first, 9), (second, len(second.token_ids))):
        rows = torch.tensor([vocabulary.rows(transcript.token_ids[:place])])
        logq_H = draft_logits(model, vocabulary, rows)[0, -1].log_softmax(0)
        tail = (1 - logq_H[3].exp() - logq_H[5].exp()).log()
        for p, logq in ((0.6, logq_H[3]), (0.3, logq_H[5]), (0.1, tail)):
            expected.append(p * (torch.tensor(p).log() - logq))
    torch.testing.assert_close(loss, torch.stack(expected).sum() / 3)


def test_only_what_the_overruled_rows_read_gets_a_gradient(
    drafter: Drafter, settings: LearningSettings, make_transcripts: MakeTranscripts
) -> None:
    model, vocabulary = drafter
    (transcript,) = make_transcripts(1)
    place = 6
    likely = LikelyTokens((6, 8), (0.5, 0.4))
    corrected = replace(transcript, corrections=(Correction(place, likely),))
    embedded: list[torch.Tensor] = []
    model.model.embed_tokens.register_forward_hook(lambda *args: embedded.append(args[2]))

    loss = Learner(model, vocabulary, replace(settings, other_places=0.0)).loss([corrected])
    (gradient_BTD,) = torch.autograd.grad(loss, embedded)

    touched_T = gradient_BTD[0].abs().sum(-1) > 0
    assert touched_T[:place].all()
    assert not touched_T[place:].any()


def test_places_beyond_the_drafters_context_are_left_out(
    drafter: Drafter, settings: LearningSettings, make_transcripts: MakeTranscripts
) -> None:
    (near,) = make_transcripts(1)
    likely = LikelyTokens((6, 8), (0.5, 0.4))
    long_ids = (near.token_ids * 10)[: CONTEXT + 20]
    long = Transcript(long_ids, 4, (Correction(6, likely), Correction(CONTEXT + 3, likely)))
    learner = Learner(*drafter, replace(settings, other_places=0.0))

    found = learner.loss([long])
    expected = learner.loss([replace(long, corrections=long.corrections[:1])])
    torch.testing.assert_close(found, expected)


def test_other_places_of_the_answer_teach_their_token_by_their_weight(
    drafter: Drafter, settings: LearningSettings, make_transcripts: MakeTranscripts
) -> None:
    """Neither the prompt nor what the drafter cannot propose, and no place twice."""
    model, vocabulary = drafter
    (transcript,) = make_transcripts(1)
    ids = (*transcript.token_ids[:6], 7, *transcript.token_ids[6:8])  # the drafter cannot propose token 7
    corrected = Transcript(ids, 4, (Correction(5, LikelyTokens((ids[5], 1), (0.9, 0.05))),))

    alone = Learner(model, vocabulary, replace(settings, other_places=0.0)).loss([corrected])
    both = Learner(model, vocabulary, replace(settings, other_places=0.5)).loss([corrected])

    logq_TH = draft_logits(model, vocabulary, torch.tensor([vocabulary.rows(ids)]))[0].log_softmax(-1)
    head = vocabulary.token_ids[: vocabulary.num_head_tokens]
    expected = -sum(logq_TH[place - 1, head.index(ids[place])] for place in (4, 7, 8))
    torch.testing.assert_close(both - alone, 0.5 * expected)


def test_an_answer_that_was_overruled_everywhere_has_no_other_places(
    drafter: Drafter, settings: LearningSettings, make_transcripts: MakeTranscripts
) -> None:
    (transcript,) = make_transcripts(1)
    likely = LikelyTokens((6, 8), (0.5, 0.4))
    corrections = tuple(Correction(place, likely) for place in range(4, len(transcript.token_ids)))
    overruled = replace(transcript, corrections=corrections)

    found, expected = (
        Learner(*drafter, replace(settings, other_places=weight)).loss([overruled]) for weight in (1.0, 0.0)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jensen_shannon", "total_variation"])
def test_updates_bring_the_drafter_to_the_target(
    drafter: Drafter, settings: LearningSettings, make_transcripts: MakeTranscripts, divergence: str
) -> None:
    torch.manual_seed(0)
    learner = Learner(*drafter, replace(settings, divergence=divergence, learning_rate=0.02))
    unseen = make_transcripts(20)
    before = acceptance(*drafter, unseen)

    losses = [learner.update(make_transcripts(20)) for _ in range(60)]

    assert losses[-1] < losses[0]
    if divergence == "forward_kl":  # the others need a drafter that is not this far off
        after = acceptance(learner.average, learner.vocabulary, unseen)
        assert before.agreement < 0.1 and after.agreement > 0.8
        assert after.tokens_per_round > 3 > before.tokens_per_round


def test_without_the_targets_weights_a_new_token_changes_nothing_until_it_is_learned(
    drafter: Drafter, settings: LearningSettings, make_transcripts: MakeTranscripts
) -> None:
    model, vocabulary = drafter
    unknown = [token for token in range(3, VOCAB_SIZE) if token not in vocabulary.row_of_id]
    transcripts = make_transcripts(30, prompt_tokens=tuple(unknown[:12]))
    learner = Learner(model, vocabulary, settings)

    learner.meet(transcripts, vocabulary.num_rows + 8)

    new = learner.vocabulary
    assert new.num_rows == vocabulary.num_rows + 8
    assert new.num_head_tokens == vocabulary.num_head_tokens
    assert set(new.token_ids) - set(vocabulary.token_ids) <= set(unknown[:12])
    for transcript in transcripts[:4]:
        was_BTH, is_BTH = (
            draft_logits(m, v, torch.tensor([v.rows(transcript.token_ids)]))
            for m, v in ((model, vocabulary), (learner.model, new))
        )
        torch.testing.assert_close(is_BTH, was_BTH)


def test_new_tokens_begin_where_the_targets_embedding_puts_them(
    drafter: Drafter, settings: LearningSettings, make_transcripts: MakeTranscripts, tmp_path: Path
) -> None:
    """The drafter's rows are made a linear image of the target's, so that the map can be found."""
    model, vocabulary = drafter
    write_tiny_target(tmp_path / "target")
    target_VE = AutoModelForCausalLM.from_pretrained(tmp_path / "target").state_dict()[EMBEDDING]
    map_ED = torch.randn(target_VE.shape[1], model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.model.embed_tokens.weight[:-1] = (target_VE @ map_ED)[list(vocabulary.token_ids)] + 1.0
    learner = Learner(model, vocabulary, replace(settings, target=tmp_path / "target"))

    learner.meet(make_transcripts(30, prompt_tokens=(9, 11, 13)), vocabulary.num_rows + 8)

    found_RD = learner.model.state_dict()[EMBEDDING][learner.vocabulary.rows([9, 11, 13])]
    expected_RD = (target_VE @ map_ED)[[9, 11, 13]] + 1.0
    cosine = torch.nn.functional.cosine_similarity(found_RD, expected_RD)
    assert cosine.min() > 0.9
    known = list(vocabulary.token_ids)
    was_RD, is_RD = model.state_dict()[EMBEDDING], learner.average.state_dict()[EMBEDDING]
    torch.testing.assert_close(is_RD[learner.vocabulary.rows(known)], was_RD[: len(known)])


def test_tokens_that_answers_hold_become_proposable(
    drafter: Drafter, settings: LearningSettings, make_transcripts: MakeTranscripts
) -> None:
    model, vocabulary = drafter
    written = [5, 9]  # one that is only read so far, one that is unknown
    transcripts = [replace(t, token_ids=(*t.token_ids, *written)) for t in make_transcripts(3)]
    learner = Learner(model, vocabulary, settings)

    learner.meet(transcripts, vocabulary.num_rows + 8)

    new = learner.vocabulary
    assert set(new.token_ids[: new.num_head_tokens]) == {*vocabulary.token_ids[: vocabulary.num_head_tokens], *written}
    assert len(set(new.token_ids)) == len(new.token_ids)
    was_RD, is_RD = model.state_dict()[EMBEDDING], learner.model.state_dict()[EMBEDDING]
    torch.testing.assert_close(is_RD[new.row_of_id[5]], was_RD[vocabulary.row_of_id[5]])
    torch.testing.assert_close(is_RD[new.row_of_id[9]], was_RD[vocabulary.unknown_row])


def test_an_update_in_several_passes_is_the_update_in_one(
    base: Path, settings: LearningSettings, make_transcripts: MakeTranscripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcripts = [replace(t, token_ids=t.token_ids[: 8 + n % 9]) for n, t in enumerate(make_transcripts(30))]
    transcripts = [
        replace(t, corrections=tuple(c for c in t.corrections if c.position <= len(t.token_ids))) for t in transcripts
    ]
    losses = []
    for tokens_a_pass in (4_096, 60):
        monkeypatch.setattr(learner_module, "TOKENS_A_PASS", tokens_a_pass)
        learner = Learner(*load_drafter(base), settings)
        losses.append([learner.update(transcripts) for _ in range(5)])

    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
    assert losses[0][-1] < 0.9 * losses[0][0]


def test_a_loss_that_is_no_number_is_told(
    drafter: Drafter, settings: LearningSettings, make_transcripts: MakeTranscripts
) -> None:
    learner = Learner(*drafter, settings)
    with torch.no_grad():
        learner.model.model.norm.weight.fill_(torch.nan)

    with pytest.raises(Diverged):
        learner.update(make_transcripts(2))
