"""The Triton kernels on a CUDA device against the reference on CPU, at real vocabulary sizes."""

from __future__ import annotations

import pytest
import torch
from polydraft_kernels import noise, noise_rows, ops
from polydraft_kernels.noise_vectors import NOISE_VECTORS
from polydraft_kernels.packing import Walk

from tests.unit.kernels.verify_cases import CHAINS, DRAFTS, TREES, make_case, make_drawn_case

pytestmark = pytest.mark.gpu

VOCAB_SIZES = (1, 37, 1024, 1025, 8192, 151_936)


def assert_same_walk(walk: Walk, expected: Walk) -> None:
    assert walk.num_accepted_B.tolist() == expected.num_accepted_B.tolist()
    assert walk.free_token_B.tolist() == expected.free_token_B.tolist()
    assert walk.path_BD.tolist() == expected.path_BD.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("vocab_size", VOCAB_SIZES)
@pytest.mark.parametrize("drafts", DRAFTS)
def test_equals_reference(drafts: str, vocab_size: int, dtype: torch.dtype) -> None:
    on_device = make_case(drafts, vocab_size, dtype, "cuda")
    on_cpu = make_case(drafts, vocab_size, dtype)

    assert_same_walk(
        ops.verify_greedy(on_device.logits_TV, on_device.trees, "triton"),
        ops.verify_greedy(on_cpu.logits_TV, on_cpu.trees, "reference"),
    )
    assert_same_walk(
        ops.verify_coupled(on_device.logits_TV, on_device.trees, on_device.rows, "triton"),
        ops.verify_coupled(on_cpu.logits_TV, on_cpu.trees, on_cpu.rows, "reference"),
    )
    choices_T = ops.choose_coupled(on_device.logits_TV, on_device.rows, "triton")
    assert choices_T.tolist() == ops.choose_coupled(on_cpu.logits_TV, on_cpu.rows, "reference").tolist()


@pytest.mark.parametrize("name", ["verify_chain_rejection", "verify_block", "verify_multi_round"])
@pytest.mark.parametrize("vocab_size", VOCAB_SIZES)
@pytest.mark.parametrize("chains", CHAINS)
def test_verifiers_of_chains_equal_the_reference(chains: str, vocab_size: int, name: str) -> None:
    verify = getattr(ops, name)
    for seed in range(10):
        one_hot = seed % 2 == 1
        on_device = make_drawn_case(CHAINS[chains], vocab_size, torch.bfloat16, "cuda", seed=seed, one_hot=one_hot)
        on_cpu = make_drawn_case(CHAINS[chains], vocab_size, torch.bfloat16, seed=seed, one_hot=one_hot)

        walks = [
            verify(case.logits_TV, case.trees, case.draft_probs_TV, case.rows, case.rounds_B, backend=backend)
            for case, backend in ((on_device, "triton"), (on_cpu, "reference"))
        ]
        assert_same_walk(*walks)


@pytest.mark.parametrize("vocab_size", VOCAB_SIZES)
@pytest.mark.parametrize("trees", TREES)
def test_multi_round_rejection_of_trees_equals_the_reference(trees: str, vocab_size: int) -> None:
    for seed in range(10):
        on_device = make_drawn_case(TREES[trees], vocab_size, torch.bfloat16, "cuda", seed=seed)
        on_cpu = make_drawn_case(TREES[trees], vocab_size, torch.bfloat16, seed=seed)

        cases = (on_device, on_cpu)
        inputs = [(case.logits_TV, case.trees, case.draft_probs_TV, case.rows, case.rounds_B) for case in cases]
        found = ops.verify_multi_round(*inputs[0], backend="triton")
        assert_same_walk(found, ops.verify_multi_round(*inputs[1], backend="reference"))


def test_torch_on_the_device_produces_the_stored_noise() -> None:
    for vector in NOISE_VECTORS:
        states_T = noise_rows.row_states(
            torch.tensor([noise.signed_key(vector.key)], device="cuda"),
            torch.tensor([vector.position], device="cuda"),
            stream=vector.stream,
            rounds_T=torch.tensor([vector.round_index], device="cuda"),
        )
        bits_TV = noise_rows.bits_of_states(states_T, torch.tensor([vector.token_id], device="cuda"))
        assert int(bits_TV[0, 0]) == noise.signed_key(vector.bits)
