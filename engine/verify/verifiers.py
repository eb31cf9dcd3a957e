"""The registry of verifiers. A verifier turns the target's logits on packed drafts into accepted paths.

| name            | lawful for drafts                                | temperature |
| greedy          | any                                              | 0 only      |
| coupled         | any                                              | any         |
| chain_rejection | chains drawn from a law that is at hand          | any         |
| block           | the same; accepts no fewer of them               | any         |
| multi_round     | the same, and trees whose siblings were drawn    | any         |
|                 | without replacement from such a law              |             |

`coupled` is the default: it needs no law of the drafts, and with a seed the text does not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from polydraft_kernels import ops
from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk
from torch import Tensor

from engine.drafters.base import DraftLaw

DEFAULT_VERIFIER = "coupled"


@dataclass(frozen=True, slots=True)
class VerifyWork:
    """One step's drafts and the target's answer. B sessions, T packed rows, V vocabulary."""

    logits_TV: Tensor
    """float32, bfloat16 or float16; row t comes after reading row t's token."""
    trees: PackedTrees
    rows: SamplingRows
    draft_probs_TV: Tensor | None = None
    """Row t is the law that the children of row t were drawn from (`one_hot_laws` of a chain chosen without chance).

    This and the next for `chain_rejection`, `block` and `multi_round` only.
    """
    rounds_B: Tensor | None = None
    """int64: the request's round counter, which never restarts."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A way to judge drafts."""

    name: str
    verify: Callable[[VerifyWork], Walk]
    lawful_for: frozenset[DraftLaw]
    needs_greedy: bool = False

    @property
    def judges_any_draft(self) -> bool:
        """Whether it needs no law of the drafts, only their tokens."""
        return self.lawful_for == frozenset(DraftLaw)

    def check_lawful(self, law: DraftLaw, *, is_greedy: bool, drafter: str = "") -> None:
        """ValueError if the text would not follow the target's law."""
        if law not in self.lawful_for:
            lawful = ", ".join(sorted(one.value for one in self.lawful_for))
            raise ValueError(
                f"verifier {self.name!r} cannot judge drafts of law {law.value!r}"
                f"{f', as drafter {drafter!r} proposes' if drafter else ''}, only of {lawful}; "
                f"use {DEFAULT_VERIFIER!r}, which can judge any"
            )
        if self.needs_greedy and not is_greedy:
            raise ValueError(
                f"verifier {self.name!r} takes the most likely token, but the request samples (temperature above 0); "
                f"use {DEFAULT_VERIFIER!r}"
            )


def _verify_greedy(work: VerifyWork) -> Walk:
    return ops.verify_greedy(work.logits_TV, work.trees)


def _verify_coupled(work: VerifyWork) -> Walk:
    return ops.verify_coupled(work.logits_TV, work.trees, work.rows)


def _by_law(
    verify: Callable[[Tensor, PackedTrees, Tensor, SamplingRows, Tensor], Walk],
) -> Callable[[VerifyWork], Walk]:
    """A verifier that needs the law of the drafts and the round counters."""

    def verify_work(work: VerifyWork) -> Walk:
        if work.rounds_B is None:
            raise ValueError("verifying by the law of the drafts needs each request's round counter; fill in rounds_B")
        if work.draft_probs_TV is None:
            raise ValueError("verifying by the law of the drafts needs that law; fill in draft_probs_TV")
        return verify(work.logits_TV, work.trees, work.draft_probs_TV, work.rows, work.rounds_B)

    return verify_work


def one_hot_laws(token_ids: Sequence[int], vocab_size: int) -> Tensor:
    """The laws of a chain that was chosen without chance, as `TokenTree.laws`; the last row is 0."""
    laws_NV = torch.zeros(len(token_ids) + 1, vocab_size)
    laws_NV[range(len(token_ids)), list(token_ids)] = 1.0
    return laws_NV


_ANY_LAW = frozenset(DraftLaw)
_CHAIN_LAWS = frozenset({DraftLaw.ONE_HOT, DraftLaw.CHAIN_EXACT})
_TREE_LAWS = _CHAIN_LAWS | {DraftLaw.NO_REPLACEMENT}

VERIFIERS: dict[str, Verifier] = {
    verifier.name: verifier
    for verifier in (
        Verifier("greedy", _verify_greedy, _ANY_LAW, needs_greedy=True),
        Verifier("coupled", _verify_coupled, _ANY_LAW),
        Verifier("chain_rejection", _by_law(ops.verify_chain_rejection), _CHAIN_LAWS),
        Verifier("block", _by_law(ops.verify_block), _CHAIN_LAWS),
        Verifier("multi_round", _by_law(ops.verify_multi_round), _TREE_LAWS),
    )
}


def select_verifier(name: str, law: DraftLaw, *, is_greedy: bool) -> Verifier:
    """The verifier of that name, if it is lawful for such drafts; ValueError otherwise."""
    if name not in VERIFIERS:
        raise ValueError(f"there is no verifier {name!r}; use one of {', '.join(VERIFIERS)}")
    verifier = VERIFIERS[name]
    verifier.check_lawful(law, is_greedy=is_greedy)
    return verifier
