"""The language-model drafter: what it chooses, where it stops, how much it computes. Chains have a branching of 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from polydraft_kernels.noise import Stream, gumbel_numpy
from torch import Tensor
from transformers import LlamaForCausalLM

from engine.drafters.base import DraftSession, DraftVerdict, DraftWork
from engine.drafters.checkpoint import EMBEDDING, DrafterCheckpoint, load_checkpoint
from engine.drafters.lean_llama import Rows
from engine.drafters.lm import LMDrafter, resolve_dtype
from engine.drafters.shapes import Graph, LikeliestPaths
from engine.sampling import SamplingParams
from engine.tree import TokenTree
from tests.fakes_drafter import CONTEXT, EOS, VOCAB_SIZE, head_tokens, write_tiny_drafter

PROMPT = (3, 95, 2, 8, 10, 41, 4, 7)
"""Proposable, input-only and unknown tokens."""
GREEDY = SamplingParams()
SAMPLED = SamplingParams(temperature=0.8, seed=3)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[LlamaForCausalLM, DrafterCheckpoint]:
    directory = tmp_path_factory.mktemp("drafter")
    model = write_tiny_drafter(directory)
    return model, load_checkpoint(directory)


def build(
    checkpoint: DrafterCheckpoint, min_confidence: float = 0.0, eos: tuple[int, ...] = (), branching: int = 1
) -> LMDrafter:
    shape = LikeliestPaths(branching, min_confidence)
    return LMDrafter(checkpoint, vocab_size=VOCAB_SIZE, eos_token_ids=eos, shape=shape)


def propose(
    drafter: LMDrafter, tokens: tuple[int, ...], sampling: SamplingParams, max_nodes: int = 8
) -> tuple[int, ...]:
    drafter.open([DraftSession(0, tokens, sampling)])
    (tree,) = drafter.propose([DraftWork(0, max_nodes)])
    drafter.close([0])
    return tree.token_ids


@torch.inference_mode()
def reference_logits(model: LlamaForCausalLM, checkpoint: DrafterCheckpoint, tokens: list[int]) -> Tensor:
    """transformers' logits of the next token over the head's tokens; unknown tokens are the last row."""
    row_of = {token: row for row, token in enumerate(checkpoint.token_ids)}
    rows = [row_of.get(token, len(checkpoint.token_ids)) for token in tokens]
    logits_1TR: Tensor = model(torch.tensor([rows])).logits
    return logits_1TR[0, -1, : checkpoint.manifest.num_head_tokens]


def perturbed_scores(
    model: LlamaForCausalLM, checkpoint: DrafterCheckpoint, drafted: Sequence[int], sampling: SamplingParams
) -> Tensor:
    """Scores of the head's tokens behind the prompt and `drafted`, with the target's noise above temperature 0."""
    tokens = [*PROMPT, *drafted]
    logits_V = reference_logits(model, checkpoint, tokens).double()
    if sampling.is_greedy:
        return logits_V
    noise_V = gumbel_numpy(sampling.seed, Stream.SHARED, len(tokens), np.array(head_tokens()))
    return logits_V / sampling.temperature + torch.from_numpy(noise_V)


def test_greedy_chains_are_the_models_own(pair: tuple[LlamaForCausalLM, DrafterCheckpoint]) -> None:
    model, checkpoint = pair
    tokens = list(PROMPT)
    for _ in range(8):
        tokens.append(head_tokens()[int(reference_logits(model, checkpoint, tokens).argmax())])

    assert propose(build(checkpoint), PROMPT, SamplingParams()) == tuple(tokens[len(PROMPT) :])


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("max_nodes", [1, 5, 12])
def test_a_block_holds_the_likeliest_nodes(
    pair: tuple[LlamaForCausalLM, DrafterCheckpoint], sampling: SamplingParams, max_nodes: int
) -> None:
    model, checkpoint = pair
    drafter = build(checkpoint, branching=3)
    drafter.open([DraftSession(0, PROMPT, sampling)])

    (tree,) = drafter.propose([DraftWork(0, max_nodes)])

    found = {path_to(tree, node) for node in range(len(tree))}
    assert found == likeliest_paths(model, checkpoint, sampling, max_nodes)


def path_to(tree: TokenTree, node: int) -> tuple[int, ...]:
    return () if node < 0 else (*path_to(tree, tree.parents[node]), tree.token_ids[node])


def likeliest_paths(
    model: LlamaForCausalLM, checkpoint: DrafterCheckpoint, sampling: SamplingParams, count: int
) -> set[tuple[int, ...]]:
    """By running one path after the other, the likeliest first, with three children each."""
    probs: dict[tuple[int, ...], float] = {}
    waiting: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(count):
        path = max(waiting, key=lambda path: waiting[path])
        prob = waiting.pop(path)
        scores_V = perturbed_scores(model, checkpoint, path, sampling)
        for edge_prob, row in zip(*(values.tolist() for values in scores_V.softmax(0).topk(3)), strict=True):
            probs[*path, head_tokens()[row]] = waiting[*path, head_tokens()[row]] = prob * edge_prob
    return set(sorted(probs, key=lambda path: -probs[path])[:count])


def test_after_a_path_over_repeated_tokens_a_graph_drafts_as_if_new(
    pair: tuple[LlamaForCausalLM, DrafterCheckpoint],
) -> None:
    # Nodes behind a repeated token were run after other tokens: their keys and values must not be kept.
    shape = Graph(branching=3, sibling_threshold=0.0, num_repeated=1)
    drafter, fresh = (LMDrafter(pair[1], vocab_size=VOCAB_SIZE, max_nodes=40, shape=shape) for _ in range(2))
    tokens: tuple[int, ...] = PROMPT
    drafter.open([DraftSession(0, tokens, GREEDY)])
    num_repeats = 0

    for _ in range(4):
        (tree,) = drafter.propose([DraftWork(0, 40)])
        path = max((path_to(tree, node) for node in range(len(tree))), key=len)
        num_repeats += len(path) > len({*path})
        tokens += path
        drafter.observe([DraftVerdict(0, path, len(path))])
        fresh.open([DraftSession(0, tokens, GREEDY)])
        assert drafter.propose([DraftWork(0, 40)]) == fresh.propose([DraftWork(0, 40)])
        fresh.close([0])

    assert num_repeats


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (5, 1.0), (0, 0.7), (12, 0.8)])
def test_sampled_chains_take_the_targets_noise(
    pair: tuple[LlamaForCausalLM, DrafterCheckpoint], top_k: int, top_p: float
) -> None:
    model, checkpoint = pair
    for seed in range(10):
        sampling = SamplingParams(temperature=1.7, top_k=top_k, top_p=top_p, seed=seed)
        tokens = list(PROMPT)
        for _ in range(4):
            probs = torch.softmax(reference_logits(model, checkpoint, tokens).double() / 1.7, dim=0).numpy()
            kept = np.argsort(-probs)[: top_k or len(probs)]
            shares = probs[kept] / probs[kept].sum()
            kept = kept[np.cumsum(shares) - shares < top_p]
            ids = np.array(head_tokens())[kept]
            noise = gumbel_numpy(seed, Stream.SHARED, len(tokens), ids)
            tokens.append(int(ids[(np.log(probs[kept]) + noise).argmax()]))

        assert propose(build(checkpoint), PROMPT, sampling, 4) == tuple(tokens[len(PROMPT) :])


def test_noise_belongs_to_the_position_not_to_the_round(pair: tuple[LlamaForCausalLM, DrafterCheckpoint]) -> None:
    _, checkpoint = pair
    sampling = SamplingParams(temperature=2.0, seed=4)
    whole = propose(build(checkpoint), PROMPT, sampling, 6)
    drafter = build(checkpoint)
    drafter.open([DraftSession(0, PROMPT, sampling)])

    pieces: tuple[int, ...] = ()
    for _ in range(6):
        (tree,) = drafter.propose([DraftWork(0, 1)])
        pieces += tree.token_ids
        drafter.observe([DraftVerdict(0, tree.token_ids, 1)])

    assert pieces == whole


def test_a_chain_ends_with_the_end_of_sequence(pair: tuple[LlamaForCausalLM, DrafterCheckpoint]) -> None:
    _, checkpoint = pair
    chain = propose(build(checkpoint), PROMPT, SamplingParams(temperature=2.0, seed=1))
    end = chain[3]
    assert end not in chain[:3]

    stopped = propose(build(checkpoint, eos=(EOS, end)), PROMPT, SamplingParams(temperature=2.0, seed=1))

    assert stopped == chain[:4]


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_drafting_stops_behind_the_token_that_made_it_unsure(
    pair: tuple[LlamaForCausalLM, DrafterCheckpoint], sampling: SamplingParams
) -> None:
    model, checkpoint = pair
    chain = propose(build(checkpoint), PROMPT, sampling)
    confidences: list[float] = []
    for index in range(len(chain)):
        scores_V = perturbed_scores(model, checkpoint, chain[:index], sampling)
        confidences.append((confidences[-1] if confidences else 1.0) * float(scores_V.softmax(0).max()))
    between = (confidences[2] + confidences[3]) / 2

    assert propose(build(checkpoint, min_confidence=between), PROMPT, sampling) == chain[:4]


def test_chains_stay_inside_the_context(pair: tuple[LlamaForCausalLM, DrafterCheckpoint]) -> None:
    _, checkpoint = pair

    lengths = {
        length: len(propose(build(checkpoint), (3,) * length, SamplingParams()))
        for length in (CONTEXT - 9, CONTEXT - 3, CONTEXT - 1, CONTEXT, CONTEXT + 1)
    }

    assert lengths == {CONTEXT - 9: 8, CONTEXT - 3: 3, CONTEXT - 1: 1, CONTEXT: 0, CONTEXT + 1: 0}


def test_a_block_of_n_tokens_takes_n_passes(
    pair: tuple[LlamaForCausalLM, DrafterCheckpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, checkpoint = pair
    drafter = build(checkpoint)
    drafter.open([DraftSession(0, PROMPT, SamplingParams())])
    widths: list[int] = []
    original = drafter._model.next_logits

    def counted(rows: list[Rows], num_wanted: list[int]) -> Tensor:
        widths.append(len(rows[0].tokens))
        return original(rows, num_wanted)

    monkeypatch.setattr(drafter._model, "next_logits", counted)
    (tree,) = drafter.propose([DraftWork(0, 4)])
    drafter.observe([DraftVerdict(0, (*tree.token_ids, 3), 4)])
    (tree,) = drafter.propose([DraftWork(0, 3)])
    drafter.observe([DraftVerdict(0, (tree.token_ids[0], 3), 1)])
    drafter.propose([DraftWork(0, 2)])

    assert widths == [1, 1, 1, 1, 2, 1, 1, 1, 1]


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_what_was_prepared_is_what_would_have_been_drafted(
    pair: tuple[LlamaForCausalLM, DrafterCheckpoint], sampling: SamplingParams, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, checkpoint = pair
    drafter, fresh = build(checkpoint, branching=3), build(checkpoint, branching=3)
    drafter.open([DraftSession(0, PROMPT, sampling)])
    assert not drafter.prepare()  # nobody waits
    drafter.observe([DraftVerdict(0, (3,), 0, draft_ahead=True)])
    tokens = [*PROMPT, 3]
    passes: list[int] = []
    run = drafter._model.next_logits

    def counted(rows: list[Rows], num_wanted: list[int]) -> Tensor:
        passes.append(len(rows))
        return run(rows, num_wanted)

    monkeypatch.setattr(drafter._model, "next_logits", counted)
    num_proposing = []
    for round_number in range(4):
        passes.clear()
        (tree,) = drafter.propose([DraftWork(0, 5)])
        num_proposing.append(len(passes))
        fresh.open([DraftSession(round_number, tuple(tokens), sampling)])
        (expected,) = fresh.propose([DraftWork(round_number, 5)])
        assert {path_to(tree, node) for node in range(5)} == {path_to(expected, node) for node in range(5)}
        while drafter.prepare():
            pass
        committed = tuple(path_to(tree, max(range(5), key=lambda node: len(path_to(tree, node)))))[:2]
        drafter.observe([DraftVerdict(0, committed, 1, draft_ahead=True)])
        tokens += committed

    assert num_proposing[0] > 1
    assert max(num_proposing[1:]) < num_proposing[0]


def test_nothing_is_prepared_while_verdicts_are_not_foreseen(
    pair: tuple[LlamaForCausalLM, DrafterCheckpoint],
) -> None:
    _, checkpoint = pair
    drafter = build(checkpoint, branching=2)
    drafter.open([DraftSession(0, PROMPT, GREEDY)])
    prepared = []
    for _ in range(60):
        drafter.propose([DraftWork(0, 2)])
        prepared.append(drafter.prepare())
        known = {node.row for node in drafter._sessions[0].tree.nodes}
        other = next(token for row, token in enumerate(checkpoint.token_ids) if row not in known)
        drafter.observe([DraftVerdict(0, (other,), 0, draft_ahead=True)])

    assert prepared[1]
    assert not prepared[-1]


def test_slots_are_used_again(pair: tuple[LlamaForCausalLM, DrafterCheckpoint]) -> None:
    _, checkpoint = pair
    drafter = build(checkpoint)

    for start in range(0, 60, 3):
        drafter.open([DraftSession(start + index, PROMPT, SamplingParams()) for index in range(3)])
        drafter.close(range(start, start + 3))

    cache = drafter._model.cache
    assert cache.num_free == cache.num_slots == 4


def test_a_drafter_of_another_vocabulary_is_refused(pair: tuple[LlamaForCausalLM, DrafterCheckpoint]) -> None:
    _, checkpoint = pair

    with pytest.raises(ValueError, match="token ids go from 1 to 96 but the target has 64 tokens"):
        LMDrafter(checkpoint, vocab_size=64)


def test_incomplete_directories_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"drafter de has no config\.json"):
        load_checkpoint(tmp_path / "de")

    write_tiny_drafter(tmp_path / "fr")
    (tmp_path / "fr" / "drafter.json").unlink()
    with pytest.raises(ValueError, match=r"drafter fr has no drafter\.json"):
        load_checkpoint(tmp_path / "fr")


def test_a_head_that_does_not_fit_its_vocabulary_is_refused(pair: tuple[LlamaForCausalLM, DrafterCheckpoint]) -> None:
    _, checkpoint = pair
    manifest = dataclasses.replace(checkpoint.manifest, num_head_tokens=len(checkpoint.token_ids) + 1)

    with pytest.raises(ValueError, match="num_head_tokens"):
        dataclasses.replace(checkpoint, manifest=manifest)
    with pytest.raises(ValueError, match="one row more than tokens"):
        dataclasses.replace(checkpoint, token_ids=checkpoint.token_ids[:-1])


def test_dtype_is_chosen_by_name_or_by_processor() -> None:
    assert resolve_dtype("bfloat16", "cpu") is torch.bfloat16
    assert resolve_dtype("auto", "cpu") in (torch.bfloat16, torch.float32)
    with pytest.raises(ValueError, match="unknown dtype 'int4'"):
        resolve_dtype("int4", "cpu")


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED, dataclasses.replace(SAMPLED, top_k=9, top_p=0.9)])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_token_without_numbers_empties_the_blocks_of_its_session_alone(
    tmp_path: Path, sampling: SamplingParams, value: float
) -> None:
    unsound = 5
    write_tiny_drafter(tmp_path, input_only=[unsound])
    checkpoint = load_checkpoint(tmp_path)
    embedding = checkpoint.weights[EMBEDDING].clone()
    embedding[checkpoint.row_of_token(VOCAB_SIZE)[unsound]] = value
    spoilt = build(dataclasses.replace(checkpoint, weights={**checkpoint.weights, EMBEDDING: embedding}), branching=3)
    sound = build(checkpoint, branching=3)

    def blocks(drafter: LMDrafter, prompts: dict[int, tuple[int, ...]]) -> list[TokenTree]:
        """Two rounds of all together."""
        drafter.open([DraftSession(number, prompt, sampling) for number, prompt in prompts.items()])
        first = drafter.propose([DraftWork(number, 4) for number in prompts])
        drafter.observe([DraftVerdict(number, (95, 8), 0, draft_ahead=True) for number in prompts])
        while drafter.prepare():
            pass
        second = drafter.propose([DraftWork(number, 4) for number in prompts])
        drafter.close(list(prompts))
        return [*first, *second]

    longer, shorter = PROMPT * 3, PROMPT[:2]
    expected = blocks(sound, {1: longer, 2: shorter})
    found = blocks(spoilt, {1: longer, 3: (*PROMPT, unsound, *PROMPT), 2: shorter})
    # Whichever slot the unsound session left: a short one has it now and is read beyond its end.
    again = blocks(spoilt, {1: longer, 2: shorter, 4: shorter, 5: shorter})

    assert [len(block) for block in found[1::3]] == [0, 0]
    assert [block for i, block in enumerate(found) if i % 3 != 1] == expected
    assert again == [
        block for of_longer, of_shorter in (expected[:2], expected[2:]) for block in (of_longer, *[of_shorter] * 3)
    ]
    assert all(len(block) > 0 for block in expected)


def test_a_drafter_without_any_number_drafts_nothing(pair: tuple[LlamaForCausalLM, DrafterCheckpoint]) -> None:
    _, checkpoint = pair
    embedding = checkpoint.weights[EMBEDDING].clone()
    embedding[0] = torch.nan  # of a token that it may propose: the head's row too
    spoilt = dataclasses.replace(checkpoint, weights={**checkpoint.weights, EMBEDDING: embedding})

    assert [propose(build(spoilt), PROMPT, sampling) for sampling in (GREEDY, SAMPLED)] == [(), ()]
