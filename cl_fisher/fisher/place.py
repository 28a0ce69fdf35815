"""Where the examples are, from a network's outputs back through its graph: whether shapes alone decide it."""

import math
from collections.abc import Sequence

from torch import Tensor
from torch.autograd.graph import Node

_ALIKE = {
    "Abs", "Add", "Addcmul", "Alias", "Celu", "Clamp", "ClampMin", "Clone", "Cos", "Div", "Elu", "Erf", "Exp",
    "Expand", "Expm1", "Gelu", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyRelu", "Log", "Log1P", "LogSigmoid",
    "LogSoftmax", "Mish", "Mul", "NativeLayerNorm", "Neg", "Pow", "PreluKernel", "Reciprocal", "Relu", "Rsqrt", "Rsub",
    "Selu", "Sigmoid", "Silu", "Sin", "Softmax", "Softplus", "Sqrt", "Sub", "Tanh", "ToCopy",
}  # fmt: skip
"""Every number stays in its place, but for broadcasting."""

_ALONE = {
    "AdaptiveAvgPool1D": 0, "AdaptiveAvgPool2D": 0, "AdaptiveAvgPool3D": 0, "Addmm": 1, "AvgPool2D": 0,
    "AvgPool3D": 0, "ConstantPadNd": 0, "Convolution": 0, "CudnnBatchNorm": 0, "Glu": 0, "MaxPool2DWithIndices": 0,
    "MaxPool3DWithIndices": 0, "MiopenBatchNorm": 0, "Mm": 0, "NativeBatchNorm": 0, "NativeGroupNorm": 0,
    "ReflectionPad2D": 0, "ReplicationPad2D": 0, "UpsampleBilinear2D": 0, "UpsampleNearest2D": 0,
}  # fmt: skip
"""Each entry of the first dimension stays alone; which argument has them. The others may be parameters only."""

_ATTENTION = {
    "ScaledDotProductCudnnAttention", "ScaledDotProductEfficientAttention", "ScaledDotProductFlashAttention",
    "ScaledDotProductFlashAttentionForCpu",
}  # fmt: skip
"""Queries, keys and values have them all."""

_RESHAPED = {"ReshapeAlias", "Squeeze", "UnsafeView", "Unsqueeze", "View"}
_PERMUTED = {"Permute", "T", "Transpose"}
_REDUCED = {"Mean", "Sum"}
_ALONG = {"Cat", "Select", "Slice", "Split", "SplitWithSizes", "Stack", "Unbind", "UnsafeSplit"}
"""Numbers picked out or put together along one dimension, which these may lose or gain: not that of the examples."""

_OF_WEIGHTS = {"Dot", "LinalgVectorNorm", "Mv", "Norm", "NormExceptDim", "WeightNormInterface"}
"""Found in normed weights; of parameters alone they make a parameter."""

_KNOWN = {*_OF_WEIGHTS, *_ALIKE, *_ALONE, *_ATTENTION, *_RESHAPED, *_PERMUTED, *_REDUCED, *_ALONG}


def name_of(node: Node) -> str:
    """The operation's name."""
    return node.name().partition("Backward")[0]


def stay(outputs: Tensor) -> bool:
    """Whether the places of the examples in all tensors behind outputs [N, ..., C] follow from shapes alone.

    Followed back from the outputs: where the examples are in what an operation gives tells where they are in what it
    was given. An operation that is not known, or that works along the examples (a row picked out, a sum over all of
    them), may put rows in an order that the data decides, as a product with a permutation and a sum does.
    """
    assert outputs.grad_fn is not None
    todo = [(outputs.grad_fn, outputs.output_nr, 1)]
    before: dict[tuple[Node, int], int] = {}
    shapes: dict[Node, list[Sequence[int]]] = {}
    of_parameters: set[Node] = set()
    while todo:
        node, number, now = todo.pop()
        if (node, number) in before:
            if before[node, number] != now:
                return False
            continue
        before[node, number] = now
        shape = _shape(node, number, shapes)
        found = _axis(shape, now, len(outputs))
        if found is None:
            return False
        for i, (child, its_number) in enumerate(node.next_functions):
            if child is None or hasattr(child, "variable"):
                continue
            place = _followed(node, i, shape, _shape(child, its_number, shapes), now, *found)
            if place is not None:
                todo.append((child, its_number, place))
            elif not _of_parameters(child, of_parameters):
                return False
    return True


def _axis(shape: Sequence[int], before: int, n: int) -> tuple[int, int] | None:
    """The dimension in which n examples are, `before` being what the dimensions before them multiply to.

    And the part of `before` that is in this dimension too: positions and examples may be in one.
    """
    size = 1
    for axis, length in enumerate(shape):
        if before < size * length:
            inside, rest = divmod(before, size)
            return (axis, inside) if rest == 0 and length % (inside * n) == 0 else None
        size *= length
    return None


def _followed(
    node: Node, i: int, shape: Sequence[int], given: Sequence[int], before: int, axis: int, inside: int
) -> int | None:
    """What is before the examples in argument i, of shape `given`, of an operation that gives `shape`, if known."""
    name = name_of(node)
    if name in _RESHAPED:
        return before if math.prod(shape) == math.prod(given) else None
    its = _its_axis(node, name, i, len(shape), len(given), axis)
    if its is None or not 0 <= its < len(given) or given[its] != shape[axis]:
        return None
    return math.prod(given[:its]) * inside


def _its_axis(node: Node, name: str, i: int, rank: int, given: int, axis: int) -> int | None:
    """The dimension of argument i, of `given` dimensions, that is dimension `axis` of the `rank` of the result."""
    if name in _ALIKE or (name == "Addmm" and i == 0):
        return axis - rank + given
    if name in _ALONE or name in _ATTENTION:
        return 0 if axis == 0 and i == _ALONE.get(name, i) and rank == given else None
    if name in _PERMUTED:
        return _order(node, name, given)[axis]
    if name in _REDUCED:
        reduced = {_dim(d, given) for d in getattr(node, "_saved_dim", ())}
        return axis if rank == given else [d for d in range(given) if d not in reduced][axis]
    if name not in _ALONG:
        return None
    along = _dim(getattr(node, "_saved_dim", 0), max(rank, given))
    if rank < given:
        return axis + (axis >= along)
    return None if axis == along else axis - (axis > along) * (rank - given)


def _order(node: Node, name: str, rank: int) -> list[int]:
    """Which dimension of its argument each dimension of the result is."""
    if name == "Permute":
        return [_dim(d, rank) for d in getattr(node, "_saved_dims", ())]
    order = list(range(rank))
    first, second = (0, rank - 1) if name == "T" else (getattr(node, f"_saved_dim{k}", 0) for k in (0, 1))
    first, second = _dim(first, rank), _dim(second, rank)
    order[first], order[second] = second, first
    return order


def _dim(dim: int, rank: int) -> int:
    """Counted from the front; autograd keeps negative ones as unsigned numbers of 64 bits."""
    return (dim - 2**64 if dim >= 2**63 else dim) % rank


def _shape(node: Node, number: int, known: dict[Node, list[Sequence[int]]]) -> Sequence[int]:
    """Of what an operation gave; of no dimensions where torch does not tell."""
    if node not in known:
        known[node] = [tuple(getattr(about, "shape", ())) for about in getattr(node, "_input_metadata", ())]
    return known[node][number] if number < len(known[node]) else ()


def _of_parameters(node: Node, seen: set[Node]) -> bool:
    """Whether nothing but parameters is behind it, put together by operations above; `seen`: of what that is known.

    An input has no gradient either, and an operation that is not above may have one without showing it, as a look-up
    has.
    """
    todo = [node]
    while todo:
        node = todo.pop()
        if hasattr(node, "variable") or node in seen:
            continue
        arguments = [child for child, _ in node.next_functions]
        given = [child for child in arguments if child is not None]
        if name_of(node) not in _KNOWN or not arguments or len(given) < len(arguments):
            return False
        seen.add(node)
        todo += given
    return True
