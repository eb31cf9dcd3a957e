"""What a target must show at load: agreement with transformers, and invariance of every layer to the number of rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from engine.batch import WorkItem
from engine.kv_cache import KVCache
from engine.model import ModelRefused, TargetModel
from engine.numerics import Numerics
from engine.pages import PageId
from engine.tree import TokenTree

logger = logging.getLogger(__name__)

ROW_COUNTS = (1, 2, 5, 17, 64, 300)
PADDINGS = (1, 2, 4, 8, 16)
"""Row counts to which smaller steps may be padded so that a matrix product takes the same path for all of them."""
NUM_PLACES = 32
"""Where each row count is tried: two paths of a narrow product round alike on nine rows of ten."""
_PAGE_SIZE = 16


class NotInvariant(ValueError):
    """A layer gives other bits for another number of rows; the message names it."""


def prove(target: TargetModel, numerics: Numerics) -> int:
    """Prove agreement with transformers and, if promised, invariance; the rows that a step is to be padded to.

    All ranks of a sharded target do this together. ModelRefused or NotInvariant says what the model does not keep.
    """
    is_invariant = numerics is Numerics.INVARIANT
    min_rows = find_min_rows(target) if is_invariant else 1
    if target.group is not None:
        target.group.wait_for_all()
        min_rows = target.group.most(min_rows)
    check_agreement(target, min_rows)
    if is_invariant:
        check_step_invariance(target, min_rows)
    return min_rows


class _Scratch:
    """A small KV pool of one sequence, for checks."""

    def __init__(self, target: TargetModel, min_rows: int, num_tokens: int) -> None:
        num_pages = -(-num_tokens // _PAGE_SIZE) + 1
        self.target = target
        self.min_rows = min_rows
        self.cache = KVCache(target.kv_layers, num_pages, _PAGE_SIZE, target.dtype, target.device)
        self.pages = [PageId(page) for page in range(1, num_pages)]

    def logits(self, token_ids: list[int], num_cached: int, tree: TokenTree) -> Tensor:
        """Logits of the last token and the tree's nodes."""
        item = WorkItem(token_ids, num_cached, self.pages, tree, wants_logits=True)
        return self.target.forward(self.target.pack([item], self.cache, self.min_rows))


def _random_ids(target: TargetModel, count: int) -> list[int]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, target.vocab_size, (count,), generator=generator).tolist()


def check_agreement(target: TargetModel, min_rows: int, num_tokens: int = 80) -> float:
    """Largest logit difference between the engine (chunks, then a tree) and plain transformers, relative to the spread.

    A lean step that differs by more than rounding explains is dropped; if the modules do, `ModelRefused` is raised.
    """
    num_tokens = min(num_tokens, target.max_context)
    ids = _random_ids(target, num_tokens)
    plain_TV = target.plain_logits(ids).float()
    scratch = _Scratch(target, min_rows, num_tokens + 2)
    head, tail = ids[: num_tokens - 4], ids[num_tokens - 4 :]
    scratch.logits(head[:-7], 0, TokenTree())
    # The last tokens as a branch of a tree whose other branch is wrong.
    wrong = (tail[0] + 1) % target.vocab_size
    tree = TokenTree((tail[0], wrong, tail[1], wrong, tail[2], tail[3]), (-1, -1, 0, 1, 2, 4), (0, 1, 0, 0, 0, 0))
    found_TV = scratch.logits(head[-7:], len(head) - 7, tree)[[0, 1, 3, 5, 6]].float()
    expected_TV = plain_TV[num_tokens - 5 :]
    difference = ((found_TV - expected_TV).abs().max() / expected_TV.std().clamp_min(1e-6)).item()
    tolerance = 1e-3 if target.dtype == torch.float32 else 0.2
    if not difference <= tolerance and target.lean is not None:
        logger.warning("the lean step differs by %.2g of the spread; steps run through the modules", difference)
        target.lean = None
        return check_agreement(target, min_rows, num_tokens)
    if not difference <= tolerance:
        raise ModelRefused(
            f"{target.model.config.model_type}: logits through the engine differ from transformers' own by "
            f"{difference:.2g} of their spread (allowed: {tolerance}); its attention does what the engine does not"
        )
    return difference


def _leaf_inputs(target: TargetModel, num_rows: int) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Each leaf module with a single row-wise input [1, rows, D], as it comes in a step of `num_rows` rows."""
    found: list[tuple[str, nn.Module, Tensor]] = []
    handles = []
    for name, module in target.model.named_modules():
        if next(module.children(), None) is None:
            handles.append(
                module.register_forward_pre_hook(
                    lambda module, args, kwargs, name=name: (
                        found.append((name, module, args[0].clone()))
                        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor)
                        else None
                    ),
                    with_kwargs=True,
                )
            )
    try:
        count = min(num_rows, target.max_context)
        scratch = _Scratch(target, 1, count)
        item = WorkItem(_random_ids(target, count), 0, scratch.pages, TokenTree(), wants_logits=True)
        batch = target.pack([item], scratch.cache, 1)
        target.model(
            input_ids=batch.ids_T[None],
            position_ids=batch.positions_T[None],
            use_cache=False,
            step=batch.context,
        )
    finally:
        for handle in handles:
            handle.remove()
    for name, module, value in found:
        if value.ndim == 3 and value.shape[:2] == (1, count) and value.is_floating_point():
            yield name, module, value


@torch.inference_mode()
def find_min_rows(target: TargetModel) -> int:
    """The fewest rows to pad a step to so that every layer's rows are bitwise the same for 1 to 300 rows.

    Raises `NotInvariant` naming the layer if no padding of `PADDINGS` does.
    """
    padding = 0
    for name, module, rows_1TD in _leaf_inputs(target, max(ROW_COUNTS)):
        expected_1TD = module(rows_1TD)
        while not _same_rows(module, rows_1TD, expected_1TD, PADDINGS[padding]):
            padding += 1
            if padding == len(PADDINGS):
                raise NotInvariant(
                    f"numerics 'invariant' is refused: layer {name} ({type(module).__name__}, {target.dtype}) gives "
                    f"other bits for other numbers of rows on this device, also padded to {PADDINGS[-1]}; "
                    "use numerics 'fast' or another dtype"
                )
    return PADDINGS[padding]


def _same_rows(module: nn.Module, rows_1TD: Tensor, expected_1TD: Tensor, padding: int) -> bool:
    available = rows_1TD.shape[1]
    for count in ROW_COUNTS:
        count = min(count, available)
        missing = max(0, padding - count)
        zeros = rows_1TD.new_zeros(1, missing, rows_1TD.shape[2])
        # From the end on, so that a row is also tried at another place when there is room for one trial only.
        for start in torch.linspace(available - count, 0, min(NUM_PLACES, available // count)).long().tolist():
            padded = torch.cat([rows_1TD[:, start : start + count], zeros], dim=1)
            if not torch.equal(module(padded)[:, :count], expected_1TD[:, start : start + count]):
                return False
    return True


@torch.inference_mode()
def check_step_invariance(target: TargetModel, min_rows: int, num_tokens: int = 80) -> None:
    """One sequence as a single prefill, token by token and as a tree: equal bits, or `NotInvariant`."""
    num_tokens = min(num_tokens, target.max_context)
    ids = _random_ids(target, num_tokens)
    whole = _Scratch(target, min_rows, num_tokens)
    expected = whole.logits(ids, 0, TokenTree())[-1]
    single = _Scratch(target, min_rows, num_tokens)
    for position, token in enumerate(ids):
        found = single.logits([token], position, TokenTree())[-1]
    drafted = _Scratch(target, min_rows, num_tokens)
    drafted.logits(ids[:-5], 0, TokenTree())
    tree = drafted.logits(ids[-5:-4], num_tokens - 5, TokenTree.chain(ids[-4:]))[-1]
    slots = torch.arange(_PAGE_SIZE, _PAGE_SIZE + num_tokens, device=target.device)
    for layer in range(len(target.kv_layers)):
        for other in (single, drafted):
            pairs = zip(whole.cache.read(layer, slots), other.cache.read(layer, slots), strict=True)
            if not all(torch.equal(a, b) for a, b in pairs):
                raise NotInvariant(
                    f"numerics 'invariant' is refused: the KV of layer {layer} depends on how a sequence is computed "
                    "on this device; use numerics 'fast'"
                )
    if not (torch.equal(expected, found) and torch.equal(expected, tree)):
        raise NotInvariant(
            "numerics 'invariant' is refused: the head's logits depend on how a sequence is computed on this device; "
            "use numerics 'fast'"
        )
