"""Logits and KV of a sequence, bit for bit the same however it is computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.batch import WorkItem
from engine.checks import NotInvariant, check_agreement, check_step_invariance, find_min_rows
from engine.kv_cache import KVCache
from engine.model import TargetModel, load_target
from engine.pages import PageId
from engine.tree import TokenTree
from tests.tiny_targets import FAMILIES, VOCAB_SIZE, write_tiny_target

PAGE_SIZE = 16
NUM_TOKENS = 300  # more than two attention tiles
PAGES = list(range(1, 21))


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TargetModel:
    directory: Path = write_tiny_target(tmp_path_factory.mktemp("model"), request.param)
    return load_target(directory, torch.float32, torch.device("cpu"))


class Sequence:
    """One sequence in a pool of its own, on pages in an order of its own."""

    def __init__(self, target: TargetModel, min_rows: int, pages: list[int]) -> None:
        self.target, self.min_rows = target, min_rows
        self.pages = [PageId(page) for page in pages]
        self.cache = KVCache(target.kv_layers, 64, PAGE_SIZE, target.dtype, target.device)

    def read(self, ids: list[int], num_cached: int, tree: TokenTree | None = None, others: int = 0) -> Tensor:
        """Logits after the last of `ids` and at the nodes; `others` more sequences share the step."""
        item = WorkItem(ids, num_cached, self.pages, tree or TokenTree(), wants_logits=True)
        strangers = [WorkItem([7, 8, 9], 0, [PageId(63 - i)], TokenTree(), wants_logits=True) for i in range(others)]
        batch = self.target.pack([*strangers, item], self.cache, self.min_rows)
        return self.target.forward(batch)[others:]

    def kv(self, count: int) -> list[Tensor]:
        pages = torch.tensor(self.pages)
        slots = (pages[:, None] * PAGE_SIZE + torch.arange(PAGE_SIZE)).flatten()[:count]
        return [half for layer in range(len(self.target.kv_layers)) for half in self.cache.read(layer, slots)]


def test_engine_agrees_with_transformers(family: TargetModel) -> None:
    assert check_agreement(family, find_min_rows(family)) < 1e-4


def test_one_sequence_has_the_same_bits_however_it_is_computed(family: TargetModel) -> None:
    min_rows = find_min_rows(family)
    ids = torch.randint(3, VOCAB_SIZE, (NUM_TOKENS,), generator=torch.Generator().manual_seed(1)).tolist()
    whole = Sequence(family, min_rows, PAGES)
    expected = whole.read(ids, 0)[-1]

    for chunk in (1, 7, 64):
        chunked = Sequence(family, min_rows, list(range(40, 20, -1)))
        for start in range(0, NUM_TOKENS, chunk):
            found = chunked.read(ids[start : start + chunk], start, others=(start // chunk) % 3)
        assert torch.equal(found[-1], expected), f"logits, chunks of {chunk}"
        assert all(map(torch.equal, chunked.kv(NUM_TOKENS), whole.kv(NUM_TOKENS))), f"KV, chunks of {chunk}"

    drafted = Sequence(family, min_rows, PAGES)
    drafted.read(ids[:-6], 0)
    wrong = (ids[-5] + 1) % VOCAB_SIZE
    nodes = (wrong, *ids[-5:], wrong)
    logits = drafted.read(ids[-6:-5], NUM_TOKENS - 6, TokenTree(nodes, (-1, -1, 1, 2, 3, 4, 5), (0, 1, 0, 0, 0, 0, 0)))
    assert torch.equal(logits[6], expected)
    slots = torch.arange(NUM_TOKENS - 5, NUM_TOKENS) + PAGE_SIZE
    drafted.cache.move(slots + 1, slots)
    assert all(map(torch.equal, drafted.kv(NUM_TOKENS), whole.kv(NUM_TOKENS)))


def test_bf16_is_invariant_too(tmp_path: Path) -> None:
    target = load_target(write_tiny_target(tmp_path), torch.bfloat16, torch.device("cpu"))

    check_step_invariance(target, find_min_rows(target))


def test_a_sibling_is_not_seen(family: TargetModel) -> None:
    min_rows = find_min_rows(family)
    sequence = Sequence(family, min_rows, PAGES)
    sequence.read([5, 6, 7], 0)

    alone = sequence.read([8], 3, TokenTree((10, 11), (-1, 0), (0, 0)))[[1, 2]]
    with_sibling = sequence.read([8], 3, TokenTree((9, 10, 11), (-1, -1, 1), (0, 1, 0)))[[2, 3]]

    assert torch.equal(alone, with_sibling)


def test_a_layer_that_looks_at_the_number_of_rows_is_named(target: TargetModel) -> None:
    layer = target.model.model.layers[1].mlp.down_proj
    handle = layer.register_forward_hook(lambda module, args, output: output * (1 + 1e-3 * (args[0].shape[1] > 40)))
    try:
        with pytest.raises(NotInvariant, match=r"model\.layers\.1\.mlp\.down_proj"):
            find_min_rows(target)
    finally:
        handle.remove()


def test_a_layer_that_differs_in_small_steps_on_few_rows_is_found(target: TargetModel) -> None:
    """Two paths of a narrow product round alike on most rows, so a probe of one place would miss the others."""
    layer = target.model.model.layers[1].mlp.down_proj
    inputs: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, args, output: inputs.append(args[0][0, :, 0]))
    find_min_rows(target)
    handle.remove()
    limit = max(inputs, key=len).quantile(0.95)

    def differ(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        return output * (1 + 1e-3 * (args[0].shape[1] <= 16) * (args[0][..., :1] > limit))

    handle = layer.register_forward_hook(differ)
    try:
        with pytest.raises(NotInvariant, match=r"model\.layers\.1\.mlp\.down_proj"):
            find_min_rows(target)
    finally:
        handle.remove()
