"""One forward pass that remembers, for every layer with a rule, its input and where its output's gradient will be."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional

from cl_fisher.error import InputError
from cl_fisher.fisher.fallback import check_gradients
from cl_fisher.fisher.graph import graph_of
from cl_fisher.fisher.rule.conv import ConvRule
from cl_fisher.fisher.rule.conv_transpose import ConvTransposeRule
from cl_fisher.fisher.rule.embedding import EmbeddingRule
from cl_fisher.fisher.rule.layout import Layout, examples_first, possible
from cl_fisher.fisher.rule.linear import LinearRule
from cl_fisher.fisher.rule.norm import NormRule
from cl_fisher.fisher.rule.rule import Call, LayerUse, Rule

LINEAR = LinearRule()
RULES: tuple[Rule, ...] = (ConvRule(), ConvTransposeRule(), NormRule(), EmbeddingRule())
"""Of layers that are modules; linear maps are seen where they are computed, whoever asks for them."""

_Key = tuple[tuple[str, ...], int]
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Captured:
    """Outputs [N, ..., C] with their graph, and the layers whose rules are right about this pass."""

    outputs: Tensor
    uses: list[LayerUse]
    """Layers whose parameters are used by nobody else."""
    tied: list[Call]
    """Calls of different layers that share parameters; all calls of each parameter."""
    unused: set[str]
    """Parameters that these outputs do not depend on."""


class Capture:
    """Runs a model and keeps what was found out about its layers: where examples are, and which rules to trust.

    A rule is only used where two probes prove it right: the gradient by rule must be autograd's, and the gradient at
    the layer's output must belong to the examples where the layout has them: with each example's cotangent times a
    factor of its own, it must be times that factor. It is not where rows are class prototypes, for instance. This holds
    for all batches that make the same graph, unless there is an operation in it that may put rows in an order that the
    data decides (see `cl_fisher.fisher.graph`): then the rows are probed in every batch. The uses of each weight are
    counted in the graph itself, so that one that nobody has seen counts too.
    """

    def __init__(self, model: nn.Module, trainable: Mapping[str, nn.Parameter]) -> None:
        self._model, self._trainable = model, trainable
        self._names = {id(p): name for name, p in trainable.items()}
        self._layouts: dict[_Key, Layout | None] = {}
        """None: not to be trusted."""
        self._proven: set[int] = set()
        """Forms of graphs in which these layouts are right."""
        self._n_probes = 0

    def forward(self, inputs: Any, n_examples: int) -> Captured:
        """One pass; `inputs` of `n_examples` examples."""
        calls: list[Call] = []
        with self._watched(calls):
            outputs = self._model(inputs)
        check_outputs(outputs, n_examples)
        graph = graph_of(outputs)
        seen = [call for call in calls if call.edge.node in graph.nodes]
        found = self._laid_out(_keyed(seen), outputs, graph.form)
        n_uses = {name: graph.n_uses[id(p)] for name, p in self._trainable.items()}
        uses, tied = _grouped(_complete(found, n_uses))
        return Captured(outputs, uses, tied, {name for name, n in n_uses.items() if n == 0})

    @contextmanager
    def _watched(self, calls: list[Call]) -> Iterator[None]:
        """Note the calls of modules with a rule, and of `torch.nn.functional.linear` by whomever."""

        def note(layer: Any, rule: Rule, weights: Mapping[str, Any], inputs: Any, output: Any) -> None:
            own = {local: self._names[id(p)] for local, p in weights.items() if id(p) in self._names}
            if own and isinstance(output, Tensor) and output.requires_grad:
                edge = get_gradient_edge(_whole(output))
                calls.append(Call(own, layer, rule, inputs.detach(), output.shape, edge, _undecided))

        def after_module(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            weights = dict(module.named_parameters(recurse=False))
            rule = next((r for r in RULES if len(args) == 1 and r.covers(module, args[0])), None)
            if rule is not None:
                note(module, rule, weights, args[0], output)

        def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: A002
            output = original(input, weight, bias)
            note(SimpleNamespace(weight=weight, bias=bias), LINEAR, {"weight": weight, "bias": bias}, input, output)
            return output

        with _ONE_AT_A_TIME, ExitStack() as undo:
            for module in self._model.modules():
                scripted = isinstance(module, torch.jit.ScriptModule)  # takes no hooks
                if not scripted and any(id(p) in self._names for p in module.parameters(recurse=False)):
                    undo.callback(module.register_forward_hook(after_module).remove)
            original = functional.linear
            undo.callback(setattr, functional, "linear", original)
            functional.linear = linear
            yield

    def _laid_out(self, calls: dict[_Key, Call], outputs: Tensor, form: int | None) -> list[Call]:
        """The calls that are to be trusted, examples first."""
        calls = {key: call for key, call in calls.items() if self._layouts.get(key, examples_first) is not None}
        proven = len(outputs) == 1 or form in self._proven
        if not proven or not calls.keys() <= self._layouts.keys():
            return self._probed(calls, outputs, form)
        laid = [_laid(call, self._layouts[key], len(outputs)) for key, call in calls.items()]
        return [call for call in laid if call is not None]

    def _probed(self, calls: dict[_Key, Call], outputs: Tensor, form: int | None) -> list[Call]:
        """Two backward passes; where there is a new call, also one as autograd does it."""
        n, draw = len(outputs), torch.Generator().manual_seed(self._n_probes)
        self._n_probes += 1
        cotangent = torch.randn(outputs.shape, generator=draw).to(outputs)
        factors = (16 ** torch.rand(n, generator=draw)).to(outputs)
        raw = list(calls.values())
        gradients = dict(zip(calls, _raw(raw, outputs, cotangent), strict=True))
        scaled = dict(zip(calls, _raw(raw, outputs, cotangent * _column(factors, outputs)), strict=True))
        laid: dict[_Key, Call] = {}
        for key, call in calls.items():
            known = self._layouts.get(key)
            layouts = possible(call.inputs, n) if known is None else [known]
            if found := _owned(call, layouts, gradients[key], scaled[key], factors):
                laid[key] = found
        wrong = set()
        if calls.keys() - self._layouts.keys():
            wrong = self._disagreeing([(call, gradients[key]) for key, call in laid.items()], outputs, cotangent)
        alive = {key for key, g in gradients.items() if g.numel() and bool((g != 0).any())}
        for key in calls:
            if key not in laid or wrong & set(laid[key].names.values()):
                self._layouts[key] = None
                laid.pop(key, None)
            elif n > 1 and key in alive:  # else there was nothing to be seen: look again at the next batch
                self._layouts[key] = laid[key].layout
        if form is not None and alive == calls.keys():
            self._proven.add(form)
        return list(laid.values())

    def _disagreeing(self, calls: list[tuple[Call, Tensor]], outputs: Tensor, cotangent: Tensor) -> set[str]:
        """Parameters whose gradient by rule, from these gradients at the calls' outputs, is not autograd's."""
        if not calls:
            return set()
        names = sorted(names_of(call for call, _ in calls))
        weights = [self._trainable[name] for name in names]
        by_autograd = torch.autograd.grad(outputs, weights, cotangent, retain_graph=True, materialize_grads=True)
        check_gradients(dict(zip(names, by_autograd, strict=True)))
        by_rule: dict[str, Tensor] = {}
        for call, gradient in calls:
            for local, g in call.rule.gradient(call.module, call.inputs, call.layout(gradient, len(outputs))).items():
                if (name := call.names.get(local)) is not None:
                    by_rule[name] = by_rule[name] + g if name in by_rule else g
        rounding = 1e-5 * max(map(_largest, by_autograd))  # of a parameter whose gradient is zero, nothing else is left
        return {
            name
            for name, true in zip(names, by_autograd, strict=True)
            if name not in by_rule
            or not torch.allclose(by_rule[name], true, rtol=1e-2, atol=1e-3 * _largest(true) + rounding)
        }


def check_outputs(outputs: Any, n_examples: int) -> None:
    """Raise `InputError` unless these are outputs that a Fisher can be taken of."""
    if not isinstance(outputs, Tensor) or outputs.dim() < 2:
        kind = f"a tensor of shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputError(f"the model returned {kind}; the Fisher needs outputs of shape [examples, ..., classes]")
    if len(outputs) != n_examples:
        raise InputError(f"the model returned {len(outputs)} rows of outputs for {n_examples} targets")
    if not outputs.requires_grad:
        raise InputError("the outputs do not depend on any parameter that requires a gradient, so there is no Fisher")
    if not bool(outputs.isfinite().all()):
        raise InputError("the model's outputs are not finite: look at its weights and inputs")


def at_edges(calls: Sequence[Call], outputs: Tensor, cotangent: Tensor) -> list[Tensor]:
    """Gradient at the output of each call, examples first, for one column of cotangents [N, ..., C]."""
    gradients = _raw(calls, outputs, cotangent)
    return [call.layout(g, len(outputs)) for call, g in zip(calls, gradients, strict=True)]


def at_uses(uses: Sequence[LayerUse], outputs: Tensor, cotangent: Tensor) -> list[Tensor]:
    """The same per layer use."""
    gradients = iter(at_edges([call for use in uses for call in use.calls], outputs, cotangent))
    found = []
    for use in uses:
        own = [next(gradients) for _ in use.calls]
        merged = own[0] if len(own) == 1 else use.rule.merged(own)
        assert merged is not None
        found.append(merged)
    return found


def names_of(calls: Iterable[Call | LayerUse]) -> set[str]:
    """The parameters of these calls."""
    return {name for call in calls for name in call.names.values()}


def _undecided(tensor: Tensor, n: int) -> Tensor:  # noqa: ARG001
    raise AssertionError("a layout is chosen before it is used")


def _keyed(calls: list[Call]) -> dict[_Key, Call]:
    """Calls by the names of their parameters and by how many calls of these came before."""
    count: Counter[tuple[str, ...]] = Counter()
    keyed = {}
    for call in calls:
        names = tuple(call.names.values())
        keyed[names, count[names]] = call
        count[names] += 1
    return keyed


def _laid(call: Call, layout: Layout | None, n: int) -> Call | None:
    if layout is None or layout not in possible(call.inputs, n):
        return None
    return replace(call, inputs=layout(call.inputs, n), layout=layout)


def _owned(call: Call, layouts: list[Layout], gradient: Tensor, scaled: Tensor, factors: Tensor) -> Call | None:
    """In the first layout in which the factors [N] of the examples' cotangents are those of their gradients, if any."""
    n = len(factors)
    for layout in layouts:
        laid = _laid(call, layout, n)
        if laid is None or not call.rule.covers(call.module, laid.inputs):
            continue
        once, more = (layout(g, n).reshape(n, -1) for g in (gradient, scaled))
        allowed = 1e-2 * once.abs().amax(1, keepdim=True) + 1e-5 * _largest(once) if once.numel() else 0
        if bool(((more / _column(factors, once) - once).abs() <= allowed).all()):
            return laid
    return None


def _column(factors: Tensor, like: Tensor) -> Tensor:
    return factors.to(like).reshape(-1, *[1] * (like.dim() - 1))


def _complete(calls: list[Call], n_uses: Mapping[str, int]) -> list[Call]:
    """Those whose parameters are used by these calls only."""
    while True:
        called = Counter(name for call in calls for name in call.names.values())
        complete = [call for call in calls if all(called[name] == n_uses[name] for name in call.names.values())]
        if len(complete) == len(calls):
            return calls
        calls = complete


def _grouped(calls: list[Call]) -> tuple[list[LayerUse], list[Call]]:
    """Calls of one layer as one use, where they can be; the calls that share parameters otherwise."""
    groups: list[list[Call]] = []
    for call in calls:
        related = [group for group in groups if names_of(group) & names_of([call])]
        groups = [group for group in groups if group not in related] + [[*chain.from_iterable(related), call]]
    uses, tied = [], []
    for group in groups:
        first = group[0]
        same = all(call.names == first.names and call.rule is first.rule for call in group)
        inputs = first.inputs if len(group) == 1 else first.rule.merged([c.inputs for c in group]) if same else None
        if inputs is None:
            tied += group
        else:
            uses.append(LayerUse(first.names, first.module, first.rule, inputs, tuple(group)))
    return uses, tied


def _raw(calls: Sequence[Call], outputs: Tensor, cotangent: Tensor) -> list[Tensor]:
    if not calls:
        return []
    edges = [call.edge for call in calls]
    gradients = torch.autograd.grad(outputs, edges, cotangent, retain_graph=True, allow_unused=True)
    zero = outputs.new_zeros(())
    return [
        zero.expand(call.shape) if g is None else g.reshape(call.shape)
        for call, g in zip(calls, gradients, strict=True)
    ]


def _whole(output: Tensor) -> Tensor:
    """What an output is another shape of: an in-place operation on a view replaces the view's part of the graph."""
    base = output._base
    same = base is not None and base.requires_grad and base.is_contiguous() and output.is_contiguous()
    return base if same and base is not None and base.numel() == output.numel() else output


def _largest(tensor: Tensor) -> float:
    return tensor.abs().max().item() if tensor.numel() else 0.0
