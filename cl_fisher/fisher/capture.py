"""One forward pass that remembers, for every layer with a rule, its input and where its output's gradient will be."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge

from cl_fisher.error import InputError
from cl_fisher.fisher.rule.linear import LinearRule
from cl_fisher.fisher.rule.rule import LayerUse, Rule

RULES: tuple[Rule, ...] = (LinearRule(),)


def forward(model: nn.Module, inputs: Any, trainable: Mapping[str, nn.Parameter]) -> tuple[Tensor, list[LayerUse]]:
    """Outputs [N, C] with their graph, and the layer uses that are all that their parameters are used for.

    A layer that is called twice, shares a parameter with another, or whose weight is also used without its being
    called, is left out: gradients must be summed over the uses before they are squared, which the fallback does. Uses
    are counted in the graph itself, so that one that no hook has seen counts too.
    """
    names = {id(p): name for name, p in trainable.items()}
    uses: list[LayerUse] = []

    def remember(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        own = {local: names[id(p)] for local, p in module.named_parameters(recurse=False) if id(p) in names}
        rule = next((r for r in RULES if len(args) == 1 and r.covers(module, args[0])), None)
        if own and rule is not None and output.requires_grad:
            uses.append(LayerUse(own, module, rule, args[0].detach(), tuple(output.shape), get_gradient_edge(output)))

    with ExitStack() as hooks:
        for module in model.modules():
            if next(module.parameters(recurse=False), None) is not None:
                hooks.callback(module.register_forward_hook(remember).remove)
        outputs = model(inputs)
    check_outputs(outputs)
    nodes, n_uses = _graph(outputs)
    called = Counter(name for use in uses for name in use.names.values())
    return outputs, [
        use
        for use in uses
        if use.edge.node in nodes
        and len(use.inputs) == len(outputs)
        and all(called[name] == 1 == n_uses[id(trainable[name])] for name in use.names.values())
    ]


def check_outputs(outputs: Any) -> None:
    """Raise `InputError` unless these are outputs that a Fisher can be taken of."""
    if not isinstance(outputs, Tensor) or outputs.dim() < 2:
        kind = f"a tensor of shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputError(f"the model returned {kind}; the Fisher needs outputs of shape [examples, ..., classes]")
    if not outputs.requires_grad:
        raise InputError("the outputs do not depend on any parameter that requires a gradient, so there is no Fisher")
    if not bool(outputs.isfinite().all()):
        raise InputError("the model's outputs are not finite: look at its weights and inputs")


def distrusted(uses: Sequence[LayerUse], outputs: Tensor, trainable: Mapping[str, nn.Parameter]) -> set[str]:
    """Names of parameters that a rule would be wrong about, found out by two probes of this batch.

    The gradient by rule must be autograd's, and the gradient at the layer's output must belong to the examples of the
    first dimension: with cotangents for half of the examples only, it must vanish for the others. It does not where
    the first dimension is time, or where a layer's rows are class prototypes.
    """
    if not uses:
        return set()
    cotangent = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs)
    return _disagreeing(uses, outputs, cotangent, trainable) | _mixing(uses, outputs, cotangent)


def _disagreeing(
    uses: Sequence[LayerUse], outputs: Tensor, cotangent: Tensor, trainable: Mapping[str, nn.Parameter]
) -> set[str]:
    names = names_of(uses)
    weights = [trainable[name] for name in names]
    by_autograd = torch.autograd.grad(outputs, weights, cotangent, retain_graph=True, materialize_grads=True)
    by_rule = {
        use.names[local]: gradient
        for use, at_edge in zip(uses, at_edges(uses, outputs, cotangent), strict=True)
        for local, gradient in use.rule.gradient(use.module, use.inputs, at_edge).items()
        if local in use.names
    }
    return {
        name
        for name, true in zip(names, by_autograd, strict=True)
        if name not in by_rule or not torch.allclose(by_rule[name], true, rtol=1e-2, atol=1e-3 * _largest(true))
    }


def _mixing(uses: Sequence[LayerUse], outputs: Tensor, cotangent: Tensor) -> set[str]:
    half = cotangent.clone()
    half[len(outputs) // 2 :] = 0
    elsewhere = (g[len(outputs) // 2 :] for g in at_edges(uses, outputs, half))
    return names_of(use for use, g in zip(uses, elsewhere, strict=True) if _largest(g) > 0)


def at_edges(uses: Sequence[LayerUse], outputs: Tensor, cotangent: Tensor) -> tuple[Tensor, ...]:
    """Gradient at the output of each use, for one column of cotangents [N, C]."""
    gradients = torch.autograd.grad(
        outputs, [use.edge for use in uses], cotangent, retain_graph=True, allow_unused=True
    )
    zero = outputs.new_zeros(())
    return tuple(zero.expand(use.shape) if g is None else g for use, g in zip(uses, gradients, strict=True))


def names_of(uses: Iterable[LayerUse]) -> set[str]:
    """The parameters of these uses."""
    return {name for use in uses for name in use.names.values()}


def _graph(outputs: Tensor) -> tuple[set[Node], Counter[int]]:
    """The nodes of the graph behind the outputs, and how many of its operations use each parameter, by id."""
    assert outputs.grad_fn is not None
    seen, todo, n_uses = {outputs.grad_fn}, [outputs.grad_fn], Counter[int]()
    while todo:
        for node, _ in todo.pop().next_functions:
            if node is None:
                continue
            if hasattr(node, "variable"):
                n_uses[id(node.variable)] += 1
            if node not in seen:
                seen.add(node)
                todo.append(node)
    return seen, n_uses


def _largest(tensor: Tensor) -> float:
    return tensor.abs().max().item() if tensor.numel() else 0.0
