"""The losses of distillation: values, gradients, and what a bucket may hide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.divergences import ABSENT, DIVERGENCES, buckets, forward_kl, total_variation

N, H = 5, 7


@pytest.fixture
def logits_NH() -> Tensor:
    return torch.randn(N, H, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2


@pytest.fixture
def p_NH() -> Tensor:
    return torch.randn(N, H, generator=torch.Generator().manual_seed(2)).softmax(1)


def all_rows(num_places: int = N) -> Tensor:
    return torch.arange(H).expand(num_places, H)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("num_likely", [3, H])
def test_the_gradient_is_the_slope_of_the_value(
    name: str, num_likely: int, logits_NH: Tensor, p_NH: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tensor, "float", Tensor.double)  # finite differences need the digits
    top = p_NH.double().topk(num_likely)

    def value(logits: Tensor) -> Tensor:
        return DIVERGENCES[name](*buckets(logits, top.indices, top.values)).sum()

    logits_NH.requires_grad_()
    (gradient_NH,) = torch.autograd.grad(value(logits_NH), logits_NH)
    step = 1e-5
    with torch.no_grad():
        for place in range(N):
            for row in range(H):
                nudge_NH = torch.zeros_like(logits_NH)
                nudge_NH[place, row] = step
                slope = (value(logits_NH + nudge_NH) - value(logits_NH - nudge_NH)) / (2 * step)
                assert gradient_NH[place, row].item() == pytest.approx(slope.item(), abs=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_it_is_zero_at_the_targets_own_law_and_above_elsewhere(name: str, logits_NH: Tensor, p_NH: Tensor) -> None:
    same_N = DIVERGENCES[name](*buckets(p_NH.log(), all_rows(), p_NH))
    other_N = DIVERGENCES[name](*buckets(logits_NH, all_rows(), p_NH))
    assert same_N.abs().max() < 1e-5  # what rounding leaves to the tail
    assert (other_N > 0).all()


def test_total_variation_is_one_minus_what_rejection_sampling_accepts(logits_NH: Tensor, p_NH: Tensor) -> None:
    q_NH = logits_NH.softmax(1)
    acceptance_N = (q_NH * (p_NH / q_NH).clamp_max(1.0)).sum(1)  # a draft from q is accepted with min(1, p/q)
    distance_N = total_variation(*buckets(logits_NH, all_rows(), p_NH))
    torch.testing.assert_close(distance_N, (1 - acceptance_N).float())


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_bucketed_row_never_tells_more_than_the_whole_one(name: str, logits_NH: Tensor, p_NH: Tensor) -> None:
    top = p_NH.topk(3)
    bucketed_N = DIVERGENCES[name](*buckets(logits_NH, top.indices, top.values))
    whole_N = DIVERGENCES[name](*buckets(logits_NH, all_rows(), p_NH))
    assert (bucketed_N <= whole_N + 1e-6).all()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_likely_token_without_a_row_counts_as_tail_and_hides_no_row(name: str, logits_NH: Tensor) -> None:
    rows_NK = torch.tensor([[0, 2, ABSENT]]).expand(N, 3)
    probs_NK = torch.tensor([[0.5, 0.2, 0.1]]).expand(N, 3)
    found_N = DIVERGENCES[name](*buckets(logits_NH, rows_NK, probs_NK))
    without_N = DIVERGENCES[name](*buckets(logits_NH, rows_NK[:, :2], probs_NK[:, :2]))
    torch.testing.assert_close(found_N, without_N)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_descent_reaches_the_targets_law(name: str, p_NH: Tensor) -> None:
    logits_NH = torch.zeros(N, H, requires_grad=True)
    # Total variation has a gradient of constant size, so that only a falling rate comes to rest.
    optimizer = torch.optim.Adam([logits_NH], lr=0.1)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.001, total_iters=400)
    for _ in range(400):
        optimizer.zero_grad()
        DIVERGENCES[name](*buckets(logits_NH, all_rows(), p_NH)).mean().backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        optimizer.step()
        decay.step()
    assert total_variation(*buckets(logits_NH.detach(), all_rows(), p_NH)).max() < 0.01


def test_a_sure_target_gives_finite_gradients() -> None:
    logits_NH = torch.zeros(1, H, requires_grad=True)
    sure_N = torch.tensor([[1.0, 0.0]])
    for divergence in DIVERGENCES.values():
        (gradient_NH,) = torch.autograd.grad(
            divergence(*buckets(logits_NH, torch.tensor([[0, 1]]), sure_N)).sum(), logits_NH
        )
        assert gradient_NH.isfinite().all()
    assert forward_kl(*buckets(logits_NH, torch.tensor([[0, 1]]), sure_N)).item() == pytest.approx(
        torch.log(torch.tensor(float(H))).item()
    )


def test_where_a_drafter_cannot_be_the_target_each_loss_gives_what_it_stands_for() -> None:
    """One law for three places that differ: total variation accepts most, forward KL explains the tokens best."""
    p_NH = torch.tensor([[0.8, 0.1, 0.05, 0.05], [0.7, 0.1, 0.1, 0.1], [0.05, 0.05, 0.1, 0.8]])
    rows_NH = torch.arange(4).expand(3, 4)

    def learned(name: str) -> Tensor:
        logits_H = torch.zeros(4, requires_grad=True)
        optimizer = torch.optim.Adam([logits_H], lr=0.05)
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.001, total_iters=800)
        for _ in range(800):
            optimizer.zero_grad()
            loss = DIVERGENCES[name](*buckets(logits_H.expand(3, 4), rows_NH, p_NH)).mean()
            loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
            optimizer.step()
            decay.step()
        return logits_H.detach().expand(3, 4)

    laws = {name: learned(name) for name in DIVERGENCES}
    acceptance = {name: 1 - total_variation(*buckets(law, rows_NH, p_NH)).mean().item() for name, law in laws.items()}
    nll = {name: -(p_NH * law.log_softmax(1)).sum(1).mean().item() for name, law in laws.items()}
    assert max(acceptance, key=lambda name: acceptance[name]) == "total_variation"
    assert min(nll, key=lambda name: nll[name]) == "forward_kl"
