import pytest
import torch

from aecli.options import FitOptions
from aecli.recipes import resolve
from aecli.training import optim


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("size", [(4, 4), (16, 40), (64, 64)], ids=str)
def test_singular_values_become_about_1_and_singular_vectors_stay(size, bf16):
    x = torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    near = torch.bmm(*optim.orthogonalise(x, bf16=bf16))
    kept = torch.linalg.svdvals(x) > 1e-3 * x.flatten(1).norm(dim=1)[:, None]
    values = torch.linalg.svdvals(near)
    assert values[kept].min() > (0.3 if bf16 else 0.35)
    assert values[kept].max() < (1.7 if bf16 else 1.65)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    in_its_own_axes = u.mT @ near @ v.mT
    assert torch.allclose(
        in_its_own_axes, torch.diag_embed(in_its_own_axes.diagonal(dim1=1, dim2=2)), atol=0.1 if bf16 else 1e-3
    )


def test_a_singular_matrix_is_not_blown_up():
    x = torch.randn(1, 8, 20, generator=torch.Generator().manual_seed(0))
    x[0, 4:] = x[0, :4]
    assert torch.linalg.svdvals(torch.bmm(*optim.orthogonalise(x))).max() < 1.7
    assert torch.isfinite(torch.bmm(*optim.orthogonalise(torch.zeros(1, 8, 8)))).all()


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e-10, 1e10, 1e18, 1e30])
def test_a_gradient_of_any_size_gives_the_same_step_or_none(size):
    x = torch.randn(1, 8, 20, generator=torch.Generator().manual_seed(0))
    near, scaled = torch.bmm(*optim.orthogonalise(x)), torch.bmm(*optim.orthogonalise(x * size))
    expected = near if 1e-20 <= size <= 1e18 else torch.zeros_like(near)
    assert torch.allclose(scaled, expected, atol=1e-3)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_a_norm_that_is_rounded_down_over_millions_of_values_makes_no_step_endless(bf16, monkeypatch):
    x = torch.rand(1, 16, 400, generator=torch.Generator().manual_seed(0))
    exact = torch.bmm(*optim.orthogonalise(x, bf16=bf16))
    norm = torch.linalg.vector_norm
    monkeypatch.setattr(torch.linalg, "vector_norm", lambda *args, **options: 0.9 * norm(*args, **options))
    near = torch.bmm(*optim.orthogonalise(x, bf16=bf16))
    assert torch.allclose(near, exact, atol=0.1 if bf16 else 1e-3)


def test_a_matrix_steps_by_the_polar_factor_of_its_gradient():
    generator = torch.Generator().manual_seed(0)
    tall = torch.randn(40, 16, generator=generator).requires_grad_()
    before = tall.detach().clone()
    muon = optim.Muon([tall])
    tall.grad.copy_(torch.randn(40, 16, generator=generator))
    u, _, v = torch.linalg.svd(tall.grad, full_matrices=False)
    muon.step(lr=0.1)
    step = (before - tall.detach()) / (0.1 * 0.2 * 40**0.5)
    assert torch.nn.functional.cosine_similarity(step.flatten(), (u @ v).flatten(), dim=0) > 0.9
    assert step.norm() == pytest.approx(float((u @ v).norm()), rel=0.25)


def test_a_vector_steps_as_under_adamw():
    ours, theirs = (torch.ones(10).requires_grad_() for _ in range(2))
    muon, adamw = optim.Muon([ours]), torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.0)
    for i in range(5):
        theirs.grad = torch.sin(torch.arange(10.0) + i)
        ours.grad.copy_(theirs.grad)
        muon.step(lr=0.1)
        adamw.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_the_rate_rises_then_falls_to_near_zero():
    _, config = resolve(FitOptions("modern"), 784, 60_000, bounded=True)
    rates = [optim.learning_rate(config, step, 100) for step in range(100)]
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert max(rates) == pytest.approx(config.lr)
    assert 0 < rates[-1] < 0.05 * config.lr
    assert peak <= 15


def test_the_tutorials_rate_stays_as_it_is():
    _, config = resolve(FitOptions("classic"), 784, 60_000, bounded=True)
    assert {optim.learning_rate(config, step, 100) for step in range(100)} == {0.001}


def test_weight_decay_shrinks_a_matrix_whose_gradient_is_zero():
    matrix = torch.ones(6, 4).requires_grad_()
    optim.Muon([matrix], weight_decay=0.5).step(lr=0.1)
    assert torch.allclose(matrix, torch.full((6, 4), 0.95))
