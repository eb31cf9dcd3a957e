"""Our engine and its drafter in one process and one thread, as a system that answers prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from transformers import LlamaForCausalLM

from benchmarks.gpu.languages import EOS, PIVOT_TOKENS
from engine.drafters.base import DraftSession, DraftVerdict, DraftWork
from engine.drafters.checkpoint import DrafterCheckpoint, DrafterManifest, LlamaShape
from engine.drafters.lm import LMDrafter, resolve_dtype
from engine.drafters.shapes import LikeliestPaths
from engine.engine import Engine, StepOutcome
from engine.sampling import SamplingParams
from engine.session import LocalDrafting, OpenRequest
from engine.tree import TokenTree
from training.drafter import HEAD, TrimmedVocabulary, trim

Ids = tuple[int, ...]
SEED = 7
DRAFT_NODES = 5
MIN_CONFIDENCE = 0.25
_session_ids = count(1)


@dataclass(slots=True)
class OurSystem:
    """Decodes prompts together; keeps count of what drafting brought."""

    engine: Engine
    drafter: LMDrafter | None
    temperature: float
    num_rounds: int = 0
    num_tokens: int = 0

    def answer(self, prompts: Sequence[Ids], max_tokens: int) -> list[Ids]:
        """Answers without EOS."""
        sampling = SamplingParams(self.temperature, seed=SEED)
        local = None if self.drafter else LocalDrafting()
        # Each is a tenant of its own: no prompt is found prefilled by an earlier repeat.
        requests = {
            number: OpenRequest(number, ids, len(ids), sampling, max_tokens, tenant=str(number), local=local)
            for number, ids in zip(_session_ids, prompts, strict=False)
        }
        answers: dict[int, list[int]] = {number: [] for number in requests}
        for request in requests.values():
            self.engine.open(request)
        if self.drafter is not None:
            self.drafter.open([DraftSession(number, r.token_ids, sampling) for number, r in requests.items()])
        num_open = len(requests)
        while num_open:
            outcomes, _ = self.engine.step()
            for outcome in outcomes:
                self.num_rounds += bool(answers[outcome.session_id])
                answers[outcome.session_id] += outcome.token_ids
            num_open -= sum(outcome.finish is not None for outcome in outcomes)
            if self.drafter is not None:
                _draft(self.engine, self.drafter, outcomes)
        if self.drafter is not None:
            self.drafter.close(list(requests))
        self.num_tokens += sum(map(len, answers.values()))
        return [tuple(ids) for ids in answers.values()]


def _draft(engine: Engine, drafter: LMDrafter, outcomes: Sequence[StepOutcome]) -> None:
    """Tell the drafter what was committed, and offer blocks of the size that the engine asks for."""
    drafter.observe([DraftVerdict(o.session_id, o.token_ids, o.num_accepted) for o in outcomes])
    going_on = [outcome for outcome in outcomes if outcome.finish is None]
    asked = [outcome for outcome in going_on if outcome.draft_nodes]
    blocks = drafter.propose([DraftWork(o.session_id, min(o.draft_nodes, DRAFT_NODES)) for o in asked])
    trees: Mapping[int, TokenTree] = {o.session_id: tree for o, tree in zip(asked, blocks, strict=True)}
    for outcome in going_on:
        tree = trees.get(outcome.session_id, TokenTree())
        engine.draft(outcome.session_id, outcome.length, outcome.hash, tree)


def make_drafter(model: LlamaForCausalLM, device: torch.device) -> LMDrafter:
    """The drafter with its head cut to the tokens of answers, as `training.drafter` exports it."""
    vocab_size = model.config.vocab_size
    others = [token for token in range(vocab_size) if token not in set(PIVOT_TOKENS)]
    vocabulary = TrimmedVocabulary((*PIVOT_TOKENS, *others[: vocab_size - len(PIVOT_TOKENS) - 1]), len(PIVOT_TOKENS))
    state = {name: tensor.float().cpu() for name, tensor in model.state_dict().items()}
    weights = {name: tensor for name, tensor in trim(state, vocabulary).items() if name != HEAD}
    checkpoint = DrafterCheckpoint(
        DrafterManifest("synthetic", "", "", vocabulary.num_head_tokens),
        LlamaShape.from_config(model.config.to_dict()),
        vocabulary.token_ids,
        weights,
    )
    return LMDrafter(
        checkpoint,
        vocab_size=vocab_size,
        eos_token_ids=(EOS,),
        shape=LikeliestPaths(min_confidence=MIN_CONFIDENCE),
        dtype=resolve_dtype("auto", device.type),
        device=device.type,
    )
