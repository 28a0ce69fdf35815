"""One of C classes: classification, and next-token prediction."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cl_fisher.bounds import Positive, checked
from cl_fisher.error import InputError
from cl_fisher.fisher.draws import Draws
from cl_fisher.fisher.likelihood.active import active_outputs
from cl_fisher.fisher.likelihood.likelihood import Likelihood

_TINY = 1e-37  # a normal number in 32 bits: where all that is behind a class has underflowed, so has its column
_CERTAIN = 1e30
"""A logit gap at which every probability is exactly 0 or 1, at any temperature that makes sense."""


class Categorical(Likelihood):
    """Softmax over the last dimension of the outputs [N, *positions, C]; targets are class indices [N, *positions].

    With positions, the example is the whole sequence (or image): its log-likelihood is the sum over its positions.
    The square root has C columns for each position, the first position's first; for two classes it has one.

    `temperature` and `reversed` replace the probabilities by softmax(z / temperature) and softmax(-z) in every column,
    while these are still differentiated with respect to z (there is no factor 1 / temperature). WHAT COMES OUT IS NOT
    THE FISHER of the network. A temperature above 1 keeps alive the gradients of a confident network. `reversed` is
    "logits reversal" (Liu & Chang 2026, "Elastic Weight Consolidation Done Right", arXiv 2603.18596), there with the
    `Empirical` estimator, whose columns become e_y - softmax(-z) up to their sign: large where a network is right.

    Args:
        temperature: 1 for the likelihood itself.
        reversed: whether to change the sign of the logits; False for the likelihood itself.
        ignore_index: the target of positions that do not count, such as padding; they have neither score nor columns.
            For outputs with positions only: an example without any target is to be left out of the batches.
    """

    @checked
    def __init__(self, temperature: Positive = 1.0, reversed: bool = False, ignore_index: int = -100) -> None:  # noqa: A002
        self.temperature = temperature
        self.reversed = reversed
        self.ignore_index = ignore_index

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Probabilities minus one-hot; the target's entry is computed as minus the sum of the others.

        p_y - 1 in float32 is exactly zero for a confident network, the sum of the other probabilities is not.
        """
        p = self._roots(outputs).square()
        return p.scatter(-1, targets[..., None], -_others(p).gather(-1, targets[..., None]))

    def sample(self, outputs: Tensor, draws: Draws, samples: int) -> Tensor:
        """By inversion of the cumulative probabilities, in float64; one number per position."""
        cumulative = (outputs.cpu().double() * self._factor).softmax(-1).cumsum(-1)
        uniform = draws.per_example(samples, *outputs.shape[1:-1]).movedim(0, -1)
        labels = torch.searchsorted(cumulative, uniform.contiguous(), right=True)
        return labels.movedim(-1, 0).clamp_(max=outputs.shape[-1] - 1).to(outputs.device)

    def likeliest(self, outputs: Tensor) -> Tensor:
        """The class of the largest probability."""
        return (outputs * self._factor).argmax(-1)

    def square_root(self, outputs: Tensor) -> Tensor:
        """Columns sqrt(p_j) (p - e_j), j = 1..C; for two classes the one column sqrt(p_1 p_2) (1, -1).

        Their products sum to diag(p) - p p^T, the Hessian of the softmax loss.
        """
        return self.columns(outputs, slice(None))

    def n_columns(self, outputs: Tensor) -> int:
        """C for each position; one for each if C is 2."""
        return outputs[0, ..., 0].numel() * _per_position(outputs)

    def columns(self, outputs: Tensor, which: slice) -> Tensor:
        """Only those that are wanted are made; each is zero at all positions but its own."""
        return self._made(outputs, which, _per_position(outputs), _columns)

    def n_fewest(self, outputs: Tensor) -> int:
        """C - 1 for each position, the rank of diag(p) - p p^T."""
        return outputs[0, ..., 0].numel() * (outputs.shape[-1] - 1)

    def fewest(self, outputs: Tensor, which: slice) -> Tensor:
        """The columns of the Cholesky factor, which has a closed form without differences (Tanabe and Sagae 1992).

        Column j is sqrt(p_j r_j+1 / r_j) (e_j - p_>j / r_j+1), r_j the sum of p_j and all behind it.
        """
        return self._made(outputs, which, outputs.shape[-1] - 1, _cholesky)

    def _made(self, outputs: Tensor, which: slice, each: int, make: Callable[[Tensor, int, int], Tensor]) -> Tensor:
        """Columns with `each` for every position, made by `make(roots, first, last)` from those of one position."""
        roots = self._roots(outputs).reshape(len(outputs), -1, outputs.shape[-1])
        start, stop, _ = which.indices(roots.shape[1] * each)
        made = roots.new_zeros(max(0, stop - start), *roots.shape)
        for t in range(start // each, -(-stop // each)):
            first, last = max(start, t * each), min(stop, (t + 1) * each)
            made[first - start : last - start, :, t] = make(roots[:, t], first - t * each, last - t * each)
        return made.reshape(len(made), *outputs.shape)

    def combine(self, outputs: Tensor, weights: Tensor) -> Tensor:
        """The sums p (sqrt(p).w) - sqrt(p) w, in which nothing cancels but the weights' signs: O(KNC).

        The entries sum to zero, and the likeliest class's is minus the sum of the others: for a confident network its
        two terms are equal in float32.
        """
        roots = self._roots(outputs)
        w = weights.transpose(1, 2).reshape(len(weights), *outputs.shape[:-1], -1)
        if outputs.shape[-1] == 2:
            return w * _of_two(roots)
        mixed = roots * (roots * (roots * w).sum(-1, keepdim=True) - w)
        top = roots.argmax(-1, keepdim=True).expand(*mixed.shape[:-1], 1)
        mixed.scatter_(-1, top, 0.0)
        return mixed.scatter_(-1, top, -mixed.sum(-1, keepdim=True))

    def column_norms(self, outputs: Tensor) -> Tensor:
        """sqrt(p_j) |p - e_j|, without making a column."""
        roots = self._roots(outputs)
        if outputs.shape[-1] == 2:
            norms = torch.linalg.vector_norm(_of_two(roots), dim=-1, keepdim=True)
        else:
            p = roots.square()
            norms = roots * (_others(p).square() + _others(p.square())).sqrt()
        return norms.flatten(1).T

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Targets are whole numbers [N, *positions], each an output's index or, with positions, `ignore_index`."""
        if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
            raise InputError(f"targets must be a tensor of class indices, not {targets.dtype}")
        if targets.shape != outputs.shape[:-1]:
            raise InputError(
                f"targets of shape {tuple(targets.shape)} do not fit outputs of shape {tuple(outputs.shape)}: one "
                f"class index per {'example' if outputs.dim() == 2 else 'position'} is wanted, and the outputs' last "
                "dimension is the classes"
            )
        told = targets[~self._ignored(targets)]
        if len(told) and not 0 <= int(told.min()) <= int(told.max()) < outputs.shape[-1]:
            raise InputError(
                f"targets lie in {int(told.min())}..{int(told.max())}, outputs in 0..{outputs.shape[-1] - 1}"
            )

    def select(self, outputs: Tensor, targets: Tensor, classes: Sequence[int] | None) -> tuple[Tensor, Tensor]:
        """Also turns a position that does not count into one whose target is certain: it has a score of zero.

        Raises:
            InputError: as for any likelihood; targets that are not active; fewer than two active outputs.
        """
        self.check(outputs, targets)
        targets, ignored = targets.long(), self._ignored(targets)
        if (n_active := outputs.shape[-1] if classes is None else len(classes)) < 2:
            raise InputError(f"{n_active} active output: a categorical likelihood needs two or more to choose from")
        if classes is not None:
            active = active_outputs(classes, outputs)
            place = torch.full((outputs.shape[-1],), -1, device=outputs.device)
            place[active] = torch.arange(len(active), device=outputs.device)
            local = place[targets.masked_fill(ignored, int(active[0]))]
            if strangers := sorted(set(targets[local < 0].tolist())):
                raise InputError(f"targets {strangers} are not among the active classes {list(classes)}")
            outputs, targets = outputs[..., active], local
        if not bool(ignored.any()):
            return outputs, targets
        certain = outputs.new_full(outputs.shape[-1:], -_CERTAIN if self._factor > 0 else _CERTAIN)
        certain[0] = 0.0
        return torch.where(ignored[..., None], certain, outputs), targets.masked_fill(ignored, 0)

    @property
    def _factor(self) -> float:
        return (-1.0 if self.reversed else 1.0) / self.temperature

    def _ignored(self, targets: Tensor) -> Tensor:
        return targets == self.ignore_index if targets.dim() > 1 else torch.zeros_like(targets, dtype=torch.bool)

    def _roots(self, outputs: Tensor) -> Tensor:
        """sqrt(p), from half the logits: it neither underflows nor loses digits where p would."""
        logits = outputs if self._factor == 1 else outputs * self._factor
        halves = (0.5 * (logits - logits.amax(-1, keepdim=True))).exp()
        return halves / torch.linalg.vector_norm(halves, dim=-1, keepdim=True)


def _per_position(outputs: Tensor) -> int:
    return 1 if outputs.shape[-1] == 2 else outputs.shape[-1]


def _of_two(roots: Tensor) -> Tensor:
    column = roots.prod(-1)
    return torch.stack([column, -column], -1)


def _others(terms: Tensor) -> Tensor:
    """For every class the sum of the others' terms; only the largest is left out of its sum, the rest taken off."""
    top = terms.argmax(-1, keepdim=True)
    rest = terms.scatter(-1, top, 0.0).sum(-1, keepdim=True)
    return (terms.sum(-1, keepdim=True) - terms).scatter_(-1, top, rest)


def _columns(roots: Tensor, first: int, last: int) -> Tensor:
    """sqrt(p_j) (p - e_j) for j = first..last - 1, [last - first, N, C] from sqrt(p) [N, C]."""
    if roots.shape[-1] == 2:
        return _of_two(roots)[None]
    p, classes = roots.square(), torch.arange(first, last, device=roots.device)
    scores = p.expand(last - first, *p.shape).clone()
    scores[torch.arange(last - first, device=roots.device), :, classes] = -_others(p)[:, first:last].T
    return scores.mul_(roots[:, first:last].T[:, :, None])


def _cholesky(roots: Tensor, first: int, last: int) -> Tensor:
    """Columns first..last - 1 of the Cholesky factor of diag(p) - p p^T, [last - first, N, C] from sqrt(p) [N, C]."""
    if roots.shape[-1] == 2:
        return _of_two(roots)[None]
    p = roots.square()
    tails = p.flip(-1).cumsum(-1).flip(-1)
    here, behind = tails[:, first:last].T, tails[:, first + 1 : last + 1].T
    size = roots[:, first:last].T * (behind / here.clamp(min=_TINY)).sqrt()
    made = -p * (size / behind.clamp(min=_TINY))[..., None]
    j = torch.arange(first, last, device=roots.device)
    made *= torch.arange(roots.shape[-1], device=roots.device) > j[:, None, None]
    made[j - first, :, j] = size
    return made
