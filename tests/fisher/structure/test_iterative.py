"""Linear systems and eigenvalues by products, and how many of them it takes."""

import pytest
import torch

from cl_fisher.error import InputError
from cl_fisher.fisher.structure.iterative import conjugate_gradients, largest_eigenvalue


class Counted:
    """A symmetric matrix with these eigenvalues, over tensors [5, 10]."""

    def __init__(self, values):
        torch.manual_seed(0)
        basis = torch.linalg.qr(torch.randn(50, 50, dtype=torch.float64)).Q
        self.dense, self.products = (basis * values) @ basis.T, 0

    def __call__(self, v):
        self.products += 1
        return (self.dense @ v.flatten()).reshape(5, 10)


def right():
    return torch.randn(5, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("condition", [1e1, 1e4])
def test_a_system(condition):
    matrix = Counted(torch.logspace(0, torch.tensor(condition).log10(), 50, dtype=torch.float64))
    x = conjugate_gradients(matrix, lambda v: v, right())
    residual = (matrix.dense @ x.flatten() - right().flatten()).norm() / right().norm()
    assert residual <= 1e-10
    assert matrix.products <= 250


def test_a_good_preconditioner_saves_products():
    matrix = Counted(torch.logspace(0, 4, 50, dtype=torch.float64))
    inverse = torch.linalg.inv(matrix.dense + 0.01 * torch.eye(50, dtype=torch.float64))
    x = conjugate_gradients(matrix, lambda v: (inverse @ v.flatten()).reshape(5, 10), right())
    torch.testing.assert_close(x.flatten(), torch.linalg.solve(matrix.dense, right().flatten()))
    assert matrix.products <= 15


def test_nothing_to_solve():
    assert not conjugate_gradients(Counted(torch.ones(50)), lambda v: v, torch.zeros(5, 10)).any()


def test_a_system_that_is_not_positive_definite():
    values = torch.linspace(-1, 1, 50, dtype=torch.float64)
    with pytest.raises(InputError, match="larger damping"):
        conjugate_gradients(Counted(values), lambda v: v, right())


def test_the_largest_eigenvalue():
    matrix = Counted(torch.linspace(-3, 2, 50, dtype=torch.float64).clamp(max=1.9))
    assert largest_eigenvalue(matrix, right()) == pytest.approx(1.9, rel=1e-12)
    assert matrix.products <= 50
    assert largest_eigenvalue(Counted(torch.zeros(50, dtype=torch.float64)), right()) == 0
    assert largest_eigenvalue(Counted(7 * torch.ones(50, dtype=torch.float64)), right()) == pytest.approx(7)
