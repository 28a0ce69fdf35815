"""Recurrent layers step by step, in operations that vmap and hooks on `torch.nn.functional.linear` can follow."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

State = tuple[Tensor, ...]
"""What one direction of one layer carries from step to step, [N, size] each; the output h is the first."""


@dataclass(frozen=True)
class _Weights:
    """Those of one direction of one layer, as torch names them."""

    ih: Tensor
    hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    hr: Tensor | None


@contextmanager
def unrolled(model: nn.Module) -> Iterator[None]:
    """Let nn.LSTM, nn.GRU, nn.RNN and their cells compute by plain operations; their own forward is back on leaving.

    Torch's fused kernels have no rule for vmap, show no use of their weights to hooks, and on CUDA refuse a backward
    pass in evaluation mode. Outputs and gradients are the same but for rounding. Left to torch: subclasses, a
    `forward` that somebody has set on the object, PackedSequence, and dropout between layers in training mode.
    """
    layers = [m for m in model.modules() if type_before_parametrizations(m) in _LAYERS and "forward" not in vars(m)]
    try:
        for layer in layers:
            forward = _forward if isinstance(layer, nn.RNNBase) else _cell_forward
            layer.forward = MethodType(forward, layer)  # a method, so that a deep copy is bound to the copied layer
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)


def _forward(layer: nn.RNNBase, input: Any, hx: Any = None) -> tuple[Any, Any]:  # noqa: A002 - as torch names it
    """The `forward` of `layer`: output and last state, shaped as torch's."""
    plain = isinstance(input, Tensor) and input.dim() in (2, 3) and input.numel() > 0
    if not plain or (layer.training and layer.dropout > 0):
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN has no backward pass in evaluation mode
            return type(layer).forward(layer, input, hx)
    initial = hx if hx is None else (hx,) if isinstance(hx, Tensor) else tuple(hx)
    if input.dim() == 3:
        output, last = _batched(layer, input, initial)
    else:
        batch = 0 if layer.batch_first else 1
        output, last = _batched(layer, input.unsqueeze(batch), initial and tuple(s.unsqueeze(1) for s in initial))
        output, last = output.squeeze(batch), tuple(s.squeeze(1) for s in last)
    return output, last if layer.mode == "LSTM" else last[0]


def _cell_forward(cell: nn.RNNCellBase, input: Any, hx: Any = None) -> Any:  # noqa: A002
    """The `forward` of a cell: the next state."""
    mode = _mode(cell)
    sizes = [cell.hidden_size] * (2 if mode == "LSTM" else 1)
    if not isinstance(input, Tensor) or input.dim() not in (1, 2):
        return type(cell).forward(cell, input, hx)
    if hx is None:
        state = tuple(input.new_zeros(*input.shape[:-1], size) for size in sizes)
    else:
        state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    if [s.shape for s in state] != [(*input.shape[:-1], size) for size in sizes]:
        return type(cell).forward(cell, input, hx)
    weights = _Weights(cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh, None)
    x = input if input.dim() == 2 else input[None]
    state = tuple(s if input.dim() == 2 else s[None] for s in state)
    state = _STEPS[mode](torch.nn.functional.linear(x, weights.ih, weights.bias_ih), state, weights)
    state = tuple(s if input.dim() == 2 else s[0] for s in state)
    return state if mode == "LSTM" else state[0]


def _mode(cell: nn.RNNCellBase) -> str:
    """What torch calls the mode of the layer of the same kind."""
    if isinstance(cell, nn.RNNCell):
        return f"RNN_{cell.nonlinearity.upper()}"
    return "LSTM" if isinstance(cell, nn.LSTMCell) else "GRU"


def _batched(layer: nn.RNNBase, input: Tensor, initial: State | None) -> tuple[Tensor, State]:  # noqa: A002
    n_directions = 2 if layer.bidirectional else 1
    x = input if layer.batch_first else input.transpose(0, 1)  # examples first
    if initial is None:
        initial = _zeros(layer, x, n_directions)
    layer.check_forward_args(input, initial if layer.mode == "LSTM" else initial[0], None)  # type: ignore[arg-type]
    last: list[State] = []
    for i in range(layer.num_layers):
        outputs = []
        for direction in range(n_directions):
            state = tuple(s[len(last)] for s in initial)
            output, state = _run(layer, x, state, _weights(layer, i, direction), reverse=direction == 1)
            outputs.append(output)
            last.append(state)
        steps = outputs[0] if n_directions == 1 else torch.cat(outputs, -1)  # [T, N, ...], contiguous as torch's is
        x = steps.transpose(0, 1)
    return x if layer.batch_first else steps, tuple(torch.stack(states) for states in zip(*last, strict=True))


def _run(layer: nn.RNNBase, x: Tensor, state: State, weights: _Weights, reverse: bool) -> tuple[Tensor, State]:
    """One direction of one layer over x [N, T, K]: outputs [T, N, H] and the state after the last step taken."""
    step = _STEPS[layer.mode]
    # the inputs of all steps are known, so they are projected at once
    projected = torch.nn.functional.linear(x, weights.ih, weights.bias_ih).unbind(1)
    outputs = []
    for p in reversed(projected) if reverse else projected:
        state = step(p, state, weights)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if reverse else outputs), state


def _lstm(projected: Tensor, state: State, weights: _Weights) -> State:
    h, c = state
    i, f, g, o = (projected + _recurrent(h, weights)).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return h if weights.hr is None else torch.nn.functional.linear(h, weights.hr), c


def _gru(projected: Tensor, state: State, weights: _Weights) -> State:
    (h,) = state
    r, z, n = projected.chunk(3, -1)
    r_h, z_h, n_h = _recurrent(h, weights).chunk(3, -1)
    n = (n + (r + r_h).sigmoid() * n_h).tanh()
    return (n + (z + z_h).sigmoid() * (h - n),)


def _tanh(projected: Tensor, state: State, weights: _Weights) -> State:
    return ((projected + _recurrent(state[0], weights)).tanh(),)


def _relu(projected: Tensor, state: State, weights: _Weights) -> State:
    return ((projected + _recurrent(state[0], weights)).relu(),)


_LAYERS = (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)
_STEPS: Mapping[str, Callable[[Tensor, State, _Weights], State]] = {
    "LSTM": _lstm,
    "GRU": _gru,
    "RNN_TANH": _tanh,
    "RNN_RELU": _relu,
}


def _recurrent(h: Tensor, weights: _Weights) -> Tensor:
    return torch.nn.functional.linear(h, weights.hh, weights.bias_hh)


def _weights(layer: nn.RNNBase, i: int, direction: int) -> _Weights:
    """By name, not from torch's flat list, which functional_call and parametrizations do not reach."""
    suffix = f"_l{i}{'_reverse' if direction == 1 else ''}"
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    ih, hh, bias_ih, bias_hh, hr = (getattr(layer, name + suffix, None) for name in names)
    assert ih is not None
    assert hh is not None
    return _Weights(ih, hh, bias_ih, bias_hh, hr)


def _zeros(layer: nn.RNNBase, x: Tensor, n_directions: int) -> State:
    """The initial state if none is given, [layers * directions, N, size] each."""
    size = layer.num_layers * n_directions, len(x)
    h = x.new_zeros(*size, layer.proj_size or layer.hidden_size)
    return (h, x.new_zeros(*size, layer.hidden_size)) if layer.mode == "LSTM" else (h,)
