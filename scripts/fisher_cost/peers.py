"""The same estimates by other libraries, each called as its documentation says. `pip install '.[peers]'`."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from fisher_cost.methods import Method, UnavailableError


class _InMemory(torch.utils.data.Dataset):
    """Hands whole batches to a DataLoader, so that no library pays for collating single examples."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.inputs[i], self.targets[i]

    def __getitems__(self, which: list[int]) -> list[Tensor]:
        part = slice(which[0], which[-1] + 1)
        return [self.inputs[part], self.targets[part]]


def _loader(inputs: Tensor, targets: Tensor, size: int) -> DataLoader:
    return DataLoader(_InMemory(inputs, targets), batch_size=size, collate_fn=lambda batch: batch)


def _nngeometry(what: str, model: nn.Module, inputs: Tensor, targets: Tensor, size: int) -> Tensor | None:
    from nngeometry.backend import TorchHooksJacobianBackend
    from nngeometry.layercollection import LayerCollection
    from nngeometry.metrics import FIM, FIM_MonteCarlo
    from nngeometry.object import PMatDiag, PMatEKFAC, PMatKFAC

    loader = _loader(inputs, targets, size)
    if what == "exact":
        return FIM(model, loader, PMatDiag).get_diag()
    if what == "labels":
        return FIM_MonteCarlo(model, loader, PMatDiag).get_diag()
    if what == "empirical":  # there is no such call; its generator takes any function of the batch
        layers = LayerCollection.from_model(model)
        generator = TorchHooksJacobianBackend(
            model=model,
            layer_collection=layers,
            function=lambda x, y: model(x).log_softmax(1).gather(1, y[:, None]),
        )
        return PMatDiag(generator=generator, examples=loader).get_diag()
    if what == "kfac":
        FIM_MonteCarlo(model, loader, PMatKFAC)
    else:
        FIM_MonteCarlo(model, loader, PMatEKFAC).update_diag(loader)
    return None


def _backpack(what: str, model: nn.Module, inputs: Tensor, targets: Tensor, size: int) -> Tensor | None:
    from backpack import backpack, extend
    from backpack.extensions import KFAC, DiagGGNExact, DiagGGNMC, SumGradSquared

    extension = {
        "exact": DiagGGNExact,
        "labels": DiagGGNMC,
        "empirical": SumGradSquared,
        "kfac": KFAC,
    }[what]()
    model = extend(model, use_converter=not isinstance(model, nn.Sequential)).eval()
    loss = extend(nn.CrossEntropyLoss(reduction="sum"))
    total: dict[str, Any] = {}
    for x, y in zip(inputs.split(size), targets.split(size), strict=True):
        model.zero_grad()
        with backpack(extension):
            loss(model(x), y).backward()
        for name, p in model.named_parameters():
            if not hasattr(p, extension.savefield):
                raise UnavailableError(f"leaves out {name} without a word")
            value = getattr(p, extension.savefield)
            delattr(p, extension.savefield)
            if what == "kfac":
                total[name] = [a + b for a, b in zip(total[name], value, strict=True)] if name in total else value
            else:
                total[name] = total[name] + value if name in total else value
    return None if what == "kfac" else torch.cat([t.flatten() for t in total.values()]) / len(targets)


def _curvlinops(what: str, model: nn.Module, inputs: Tensor, targets: Tensor, size: int) -> None:
    from curvlinops import EKFACLinearOperator, KFACLinearOperator

    if what == "exact":
        raise UnavailableError("diagonals only by stochastic probing of matrix-vector products")
    kind = KFACLinearOperator if what == "kfac" else EKFACLinearOperator
    batches = list(zip(inputs.split(size), targets.split(size), strict=True))
    operator = kind(
        model,
        nn.CrossEntropyLoss(),
        [p for p in model.parameters() if p.requires_grad],
        batches,
        check_deterministic=False,  # two more passes, which are not the estimate
        num_data=len(targets),
        num_per_example_loss_terms=1,
        separate_weight_and_bias=False,
    )
    operator.compute_kronecker_factors()
    if what == "ekfac":
        operator.compute_eigenvalue_correction()


def _functorch(what: str, model: nn.Module, inputs: Tensor, targets: Tensor, size: int) -> Tensor:
    """Per-example gradients by torch itself, squared: what many a script does."""
    values = {name: p.detach() for name, p in model.named_parameters()}

    def loss(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, values, (x[None],)), y[None])

    def roots(values: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        log_p = functional_call(model, values, (x[None],))[0].log_softmax(0)
        return log_p * (0.5 * log_p).exp().detach(), log_p

    def squares(x: Tensor, y: Tensor) -> dict[str, Tensor]:
        if what == "empirical":
            return {name: g.square() for name, g in grad(loss)(values, x, y).items()}
        jacobian, _ = jacrev(roots, has_aux=True)(values, x)
        return {name: j.square().sum(0) for name, j in jacobian.items()}

    total = dict.fromkeys(values, 0.0)
    for x, y in zip(inputs.split(size), targets.split(size), strict=True):
        for name, part in vmap(squares)(x, y).items():
            total[name] = total[name] + part.sum(0)
    return torch.cat([t.flatten() for t in total.values()]) / len(targets)


def _on_a_copy(
    run: Callable[..., Tensor | None], what: str, model: nn.Module, inputs: Tensor, targets: Tensor, size: int
) -> Tensor | None:
    """Some leave hooks behind when they fail."""
    return run(what, copy.deepcopy(model), inputs, targets, size)


def _methods(library: str, run: Callable[..., Tensor | None], *whats: str, sizes: Any = None) -> list[Method]:
    return [Method(library, what, partial(_on_a_copy, run, what), sizes) for what in whats]


PEERS = [
    *_methods("nngeometry", _nngeometry, "empirical", "labels", "exact", "kfac", "ekfac"),
    *_methods("BackPACK", _backpack, "empirical", "labels", "exact", "kfac"),
    *_methods("curvlinops", _curvlinops, "exact", "kfac", "ekfac"),
    *_methods("torch.func", _functorch, "empirical", "exact", sizes=(4, 16, 64)),
]
