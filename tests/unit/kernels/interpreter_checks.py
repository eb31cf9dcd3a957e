"""The Triton kernels in Triton's interpreter against the reference, bit for bit.

Run by `test_triton.py` in a process of its own, because the interpreter is chosen when Triton is imported:
`TRITON_INTERPRET=1 python -m pytest tests/unit/kernels/interpreter_checks.py`.
"""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from polydraft_kernels import noise, ops
from polydraft_kernels.noise_rows import gumbel_rows
from polydraft_kernels.noise_vectors import NOISE_VECTORS
from polydraft_kernels.packing import PackedTrees, SamplingRows, Walk
from polydraft_kernels.reference.choose_coupled import choose_in_float64
from polydraft_kernels.triton import choose_coupled, choose_greedy, row_laws
from polydraft_kernels.triton.noise import noise_bits, row_state, shared_row_state

from tests.unit.kernels.screen_cases import near_ties, random_rows, sampled_rows
from tests.unit.kernels.verify_cases import CHAINS, TREES, make_case, make_drawn_case

BLOCK = 64
"""Small, so that vocabularies the interpreter can bear span several blocks."""
CASES = [
    ("mixed", 1, torch.float32),
    ("mixed", 37, torch.float32),
    ("mixed", BLOCK, torch.bfloat16),
    ("mixed", BLOCK + 1, torch.float32),
    ("mixed", 2 * BLOCK + 3, torch.bfloat16),
    ("one_session", 400, torch.float32),
    ("all_empty", BLOCK + 1, torch.float16),
    ("no_session", 37, torch.float32),
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_greedy, "BLOCK", BLOCK)
    monkeypatch.setattr(choose_coupled, "BLOCK", BLOCK)
    monkeypatch.setattr(row_laws, "BLOCK", BLOCK)


def assert_same_walk(walk: Walk, expected: Walk) -> None:
    assert walk.num_accepted_B.tolist() == expected.num_accepted_B.tolist()
    assert walk.free_token_B.tolist() == expected.free_token_B.tolist()
    assert walk.path_BD.tolist() == expected.path_BD.tolist()


@pytest.mark.parametrize(("drafts", "vocab_size", "dtype"), CASES)
def test_equals_reference(drafts: str, vocab_size: int, dtype: torch.dtype) -> None:
    case = make_case(drafts, vocab_size, dtype)

    assert_same_walk(
        ops.verify_greedy(case.logits_TV, case.trees, backend="triton"),
        ops.verify_greedy(case.logits_TV, case.trees, backend="reference"),
    )
    choices_T = ops.choose_coupled(case.logits_TV, case.rows, backend="triton")
    assert choices_T.tolist() == ops.choose_coupled(case.logits_TV, case.rows, backend="reference").tolist()
    assert_same_walk(
        ops.walk_trees(case.trees, choices_T, backend="triton"),
        ops.verify_coupled(case.logits_TV, case.trees, case.rows, backend="reference"),
    )


@pytest.mark.parametrize("name", ["verify_chain_rejection", "verify_block", "verify_multi_round"])
@pytest.mark.parametrize(
    ("chains", "vocab_size", "dtype", "one_hot"),
    [
        ("mixed_chains", 1, torch.float32, False),
        ("mixed_chains", 37, torch.float32, False),
        ("mixed_chains", BLOCK, torch.bfloat16, True),
        ("mixed_chains", 2 * BLOCK + 3, torch.bfloat16, False),
        ("one_chain", 400, torch.float32, False),
        ("no_drafts", BLOCK + 1, torch.float16, False),
        ("no_session", 37, torch.float32, False),
    ],
)
def test_verifiers_of_chains_equal_the_reference(
    name: str, chains: str, vocab_size: int, dtype: torch.dtype, one_hot: bool
) -> None:
    verify = getattr(ops, name)
    case = make_drawn_case(
        CHAINS[chains], vocab_size, dtype, seed=2, one_hot=one_hot
    )  # both ways to verify differ there
    inputs = (case.logits_TV, case.trees, case.draft_probs_TV, case.rows, case.rounds_B)

    assert_same_walk(verify(*inputs, backend="triton"), verify(*inputs, backend="reference"))


@pytest.mark.parametrize("vocab_size", [2, 37, 2 * BLOCK + 3])
@pytest.mark.parametrize("trees", TREES)
def test_multi_round_rejection_of_trees_equals_the_reference(trees: str, vocab_size: int) -> None:
    walks = []
    for seed in range(3):
        case = make_drawn_case(TREES[trees], vocab_size, torch.bfloat16, seed=seed)
        inputs = (case.logits_TV, case.trees, case.draft_probs_TV, case.rows, case.rounds_B)
        walks.append(ops.verify_multi_round(*inputs, backend="triton"))

        assert_same_walk(walks[-1], ops.verify_multi_round(*inputs, backend="reference"))

    assert any(int(walk.num_accepted_B.max()) > 1 for walk in walks)


def test_ties_go_to_the_lowest_id_across_blocks() -> None:
    logits_TV = torch.zeros(3, 200)
    logits_TV[1, 70:] = 1.0
    logits_TV[2, 199] = 1.0

    assert ops.choose_greedy(logits_TV, backend="triton").tolist() == [0, 70, 199]


def test_top_k_keeps_the_lowest_ids_of_a_tie() -> None:
    logits_TV = torch.zeros(12, 70)
    rows = SamplingRows.build([1.0] * 12, [2] * 12, [1.0] * 12, list(range(12)), [0] * 12)

    choices_T = ops.choose_coupled(logits_TV, rows, backend="triton")

    assert set(choices_T.tolist()) == {0, 1}


def test_nan_and_infinite_rows_give_a_token() -> None:
    logits_TV = torch.full((4, 100), float("nan"))
    logits_TV[1, 80] = 1.0
    logits_TV[2] = float("-inf")
    logits_TV[3, 65] = float("inf")
    rows = SamplingRows.build([1.0] * 4, [0] * 4, [1.0] * 4, [1] * 4, [0] * 4)

    assert ops.choose_greedy(logits_TV, backend="triton").tolist() == [0, 80, 0, 65]
    assert ops.choose_coupled(logits_TV, rows, backend="triton").tolist() == [0, 80, 0, 65]
    assert ops.choose_coupled(logits_TV, rows, backend="reference").tolist() == [0, 80, 0, 65]


@pytest.mark.parametrize("temperature", [1e-3, 1.0])
def test_the_screen_loses_nothing_where_all_scores_nearly_tie(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose_coupled, "BLOCK", 256)
    logits_TV, rows = near_ties(500, temperature, seed=0)

    choices_T = ops.choose_coupled(logits_TV, rows, backend="triton")

    assert choices_T.tolist() == choose_in_float64(logits_TV, rows).tolist()


@pytest.mark.filterwarnings("ignore:overflow encountered")  # where temperatures are tiny: the interpreter is numpy
@pytest.mark.parametrize(("spread", "offset"), [(1e-3, 50.0), (1e37, 0.0), (1e33, -3e38)])
def test_the_screen_loses_nothing_at_any_size_of_score(
    spread: float, offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose_coupled, "BLOCK", 256)
    logits_TV, rows = random_rows(500, spread, offset, seed=1)

    choices_T = ops.choose_coupled(logits_TV, rows, backend="triton")

    assert choices_T.tolist() == choose_in_float64(logits_TV, rows).tolist()


def test_few_blocks_are_rechecked() -> None:
    logits_TV = torch.randn(12, 512, generator=torch.Generator().manual_seed(0)) * 3
    rows = sampled_rows([0.8] * 12, 5)
    highs_TB, leaders_TB = torch.empty(12, 8), torch.empty(12, 8, dtype=torch.int32)
    scores_TV = logits_TV.double() / 0.8 + gumbel_rows(rows.keys_T, rows.positions_T, 512)
    bests_TB = scores_TV.view(12, 8, BLOCK).amax(dim=2)

    ends = choose_coupled.whole_support(12, 512, logits_TV.device)
    row_inputs = (logits_TV, rows.temperature_T, rows.keys_T, rows.positions_T, *ends)
    choose_coupled.screen_kernel[(3, 8)](
        *row_inputs, highs_TB, leaders_TB, 12, 512, 512, HAS_ENDS=False, ROWS=4, BLOCK=BLOCK
    )

    assert bool((highs_TB >= bests_TB).all())
    assert bool((leaders_TB // BLOCK == torch.arange(8)).all())
    # About the blocks that are rechecked: those whose bound reaches the best score of the row.
    assert 12 <= int((highs_TB >= bests_TB.amax(dim=1, keepdim=True)).sum()) < 24


@pytest.mark.parametrize(
    "num_rows", [choose_coupled.MANY_ROWS - 1, choose_coupled.MANY_ROWS, choose_coupled.MANY_ROWS + 3]
)
def test_the_screen_takes_any_number_of_rows(num_rows: int) -> None:
    logits_TV = torch.randn(num_rows, 2 * BLOCK + 3, generator=torch.Generator().manual_seed(2)) * 3
    rows = sampled_rows([(0.7, 0.0, 1.5)[row % 3] for row in range(num_rows)], 9)

    choices_T = ops.choose_coupled(logits_TV, rows, backend="triton")

    assert choices_T.tolist() == ops.choose_coupled(logits_TV, rows, backend="reference").tolist()


def test_of_duplicated_siblings_the_first_is_followed() -> None:
    logits_TV = torch.eye(4, 5)[:, [4, 0, 1, 2, 3]]
    trees = PackedTrees.pack([9], [[1, 1, 3]], [[-1, -1, 1]])

    assert_same_walk(ops.verify_greedy(logits_TV, trees, "triton"), ops.verify_greedy(logits_TV, trees, "reference"))


@triton.jit
def bits_kernel(keys, streams, rounds, positions, ids, bits):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - typed when compiled
    row = tl.program_id(0)
    key, stream, position, token = (
        tl.load(keys + row),
        tl.load(streams + row),
        tl.load(positions + row),
        tl.load(ids + row),
    )
    found = noise_bits(row_state(key, position, stream, tl.load(rounds + row)), token)
    shared = noise_bits(shared_row_state(key, position), token)
    tl.store(bits + 2 * row, found.to(tl.int64, bitcast=True))
    tl.store(bits + 2 * row + 1, shared.to(tl.int64, bitcast=True))


def test_noise_has_the_stored_bits() -> None:
    keys, streams, rounds, positions, ids = (
        torch.tensor(column)
        for column in zip(
            *((noise.signed_key(v.key), v.stream, v.round_index, v.position, v.token_id) for v in NOISE_VECTORS),
            strict=True,
        )
    )
    bits = torch.empty(len(NOISE_VECTORS), 2, dtype=torch.int64)

    bits_kernel[(len(NOISE_VECTORS),)](keys, streams, rounds, positions, ids, bits)

    for vector, (found, shared) in zip(NOISE_VECTORS, bits.tolist(), strict=True):
        assert found == noise.signed_key(vector.bits)
        assert (shared == found) == (vector.stream == 0 and vector.round_index == 0)
