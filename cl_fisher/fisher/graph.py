"""What autograd knows of a forward pass: its operations, and whether the data may decide where they put rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.autograd.graph import Node

from cl_fisher.error import InputError

_STAYING = {
    "Abs", "AdaptiveAvgPool1D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "Add", "Addcmul", "Alias", "AvgPool2D",
    "AvgPool3D", "Celu", "Clamp", "ClampMin", "Clone", "ConstantPadNd", "Convolution", "Cos", "CudnnBatchNorm",
    "Div", "Elu", "Erf", "Exp", "Expm1", "Expand", "Gelu", "Glu", "Hardsigmoid", "Hardswish", "Hardtanh",
    "LeakyRelu", "Log", "Log1P", "LogSigmoid", "LogSoftmax", "MaxPool2DWithIndices", "MaxPool3DWithIndices", "Mean",
    "MiopenBatchNorm", "Mish", "Mul", "NativeBatchNorm", "NativeGroupNorm", "NativeLayerNorm", "Neg", "Permute",
    "Pow", "PreluKernel", "Reciprocal", "ReflectionPad2D", "Relu", "ReplicationPad2D", "ReshapeAlias", "Rsqrt",
    "Rsub", "ScaledDotProductCudnnAttention", "ScaledDotProductEfficientAttention",
    "ScaledDotProductFlashAttention", "ScaledDotProductFlashAttentionForCpu", "Selu", "Sigmoid", "Silu", "Sin",
    "Softmax", "Softplus", "Sqrt", "Squeeze", "Sub", "Sum", "T", "Tanh", "ToCopy", "Transpose", "UnsafeView",
    "Unsqueeze", "UpsampleBilinear2D", "UpsampleNearest2D", "View", "torch::autograd::AccumulateGrad",
}  # fmt: skip
"""Operations in which a number's place follows from shapes alone, or that stay within an example (pooling, padding)."""

_ALONG_A_DIMENSION = {"Cat", "Select", "Slice", "Split", "SplitWithSizes", "Stack", "Unbind", "UnsafeSplit"}
"""These too, if it is not the first dimension: a list of examples can be put together in any order."""

_WEIGHT_AT = {"Addmm": 2, "Mm": 1, "Embedding": 0}
"""These too, if this argument is a parameter: a permutation is a product with a matrix, and a look-up of rows."""

_VIEWS = {"T", "Transpose"}


@dataclass(frozen=True)
class Graph:
    """Of some outputs [N, ..., C]."""

    nodes: frozenset[Node]
    n_uses: Counter[int]
    """How many operations use each parameter, by id."""
    form: int | None
    """The same for passes that put each row in the same place; None where the data may decide where."""


def graph_of(outputs: Tensor) -> Graph:
    """The graph behind outputs; its form is of the names of operations and of how they hang together."""
    assert outputs.grad_fn is not None
    todo = [outputs.grad_fn]
    number = {outputs.grad_fn: 0}
    n_uses = Counter[int]()
    stays = True
    form: list[object] = []
    while todo:
        node = todo.pop()
        name = _name(node)
        if name == "CheckpointFunction":
            raise InputError("checkpoint(use_reentrant=True) hides its parameters: choose use_reentrant=False")
        form.append(name)
        stays = stays and _stays(node, name, len(outputs))
        for child, _ in node.next_functions:
            if child is None:
                form.append(None)
                continue
            if child not in number:
                number[child] = len(number)
                todo.append(child)
            form.append(number[child])
            if hasattr(child, "variable"):
                n_uses[id(child.variable)] += 1
    return Graph(frozenset(number), n_uses, hash(tuple(form)) if stays else None)


def _stays(node: Node, name: str, n: int) -> bool:
    if name in _STAYING:
        return True
    if name in _ALONG_A_DIMENSION:
        sizes: Sequence[int] = getattr(node, "_saved_self_sym_sizes", ())
        no_examples = len(sizes) > 0 and sizes[0] % n != 0  # such as the three of queries, keys and values
        return getattr(node, "_saved_dim", 0) != 0 or no_examples
    arguments = [argument for argument, _ in node.next_functions]
    return name in _WEIGHT_AT and _is_parameter(arguments[_WEIGHT_AT[name]])


def _name(node: Node) -> str:
    return node.name().partition("Backward")[0]


def _is_parameter(node: Node | None) -> bool:
    """Or nothing that has a gradient."""
    while node is not None and _name(node) in _VIEWS:
        node = next(iter(node.next_functions))[0]
    return node is None or hasattr(node, "variable")
