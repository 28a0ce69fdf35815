"""Recurrent layers step by step against torch's own kernels, in float64."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cl_fisher.fisher.unrolled import unrolled

T, N, K, H = 3, 4, 2, 3
KINDS = {
    "lstm": nn.LSTM,
    "projected": lambda *a, **k: nn.LSTM(*a, proj_size=2, **k),
    "gru": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
}
GRID = [
    pytest.param(kind, {"num_layers": n, "bidirectional": two, "batch_first": first, "bias": bias}, given, batched)
    for kind, n, two, first, bias, given, batched in itertools.product(
        KINDS, (1, 3), (False, True), (False, True), (False, True), (False, True), (False, True)
    )
]


def make(kind, options):
    torch.manual_seed(0)
    return KINDS[kind](K, H, **options).double().eval()


def arguments(layer, given, batched=True, dtype=torch.float64):
    torch.manual_seed(1)
    shape = ((N, T) if layer.batch_first else (T, N)) if batched else (T,)
    inputs = [torch.randn(*shape, K, dtype=dtype)]
    if given:
        rows = layer.num_layers * (2 if layer.bidirectional else 1)
        sizes = [layer.proj_size or H, H] if isinstance(layer, nn.LSTM) else [H]
        inputs += [torch.randn(rows, *([N] if batched else []), size, dtype=dtype) for size in sizes]
    return [t.requires_grad_() for t in inputs]


def call(layer, arguments):
    """Output and last states, as a flat list."""
    x, *state = arguments
    hx = None if not state else tuple(state) if isinstance(layer, nn.LSTM) else state[0]
    output, last = layer(x, hx)
    return [output, *(last if isinstance(last, tuple) else [last])]


def derivatives(layer, arguments):
    """Gradients of a fixed random function of all outputs, with respect to arguments and weights."""
    generator = torch.Generator().manual_seed(2)
    total = sum(
        (t * torch.randn(t.shape, generator=generator, dtype=t.dtype)).sum()
        for t in map(torch.sin, call(layer, arguments))
    )
    return torch.autograd.grad(total, [*arguments, *layer.parameters()])


@pytest.mark.parametrize(("kind", "options", "given", "batched"), GRID)
def test_outputs_and_gradients_are_those_of_torch(kind, options, given, batched):
    layer = make(kind, options)
    inputs = arguments(layer, given, batched)
    outputs, gradients = call(layer, inputs), derivatives(layer, inputs)
    with unrolled(layer):
        again, again_gradients = call(layer, inputs), derivatives(layer, inputs)
    for ours, theirs in zip([*again, *again_gradients], [*outputs, *gradients], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    if not options["batch_first"] and batched:
        assert again[0].is_contiguous()  # models call `view` on it
    if len(again) > 1:
        assert isinstance(layer(inputs[0])[1], tuple) == isinstance(layer, nn.LSTM)


@pytest.mark.parametrize("kind", KINDS)
def test_vmap_of_gradients_works_under_it(kind):
    layer = make(kind, {"num_layers": 2, "bidirectional": True, "batch_first": True})
    weights = dict(layer.named_parameters())
    (x,) = arguments(layer, False)

    def of_one(values, example):
        return functional_call(layer, values, (example[None],))[0].square().sum()

    with unrolled(layer):
        rows = vmap(grad(of_one), in_dims=(None, 0))({name: p.detach() for name, p in weights.items()}, x.detach())
    for n in range(N):
        truth = torch.autograd.grad(layer(x[n : n + 1])[0].square().sum(), weights.values())
        for name, g in zip(weights, truth, strict=True):
            torch.testing.assert_close(rows[name][n], g, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch_first", [False, True])
def test_every_product_is_a_call_of_linear_with_the_examples_first(batch_first, monkeypatch):
    layer = make("projected", {"batch_first": batch_first})
    seen = []
    linear = torch.nn.functional.linear

    def watching(x, weight, bias=None):
        seen.append((tuple(x.shape), weight, bias))
        return linear(x, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", watching)
    with unrolled(layer):
        layer(*arguments(layer, False))
    ih, hh, bias_ih, bias_hh, hr = layer.parameters()
    steps = [((N, 2), hh, bias_hh), ((N, H), hr, None)] * T
    assert [shape for shape, _, _ in seen] == [(N, T, K), *(shape for shape, _, _ in steps)]
    wanted = [(ih, bias_ih), *((weight, bias) for _, weight, bias in steps)]
    assert all(s[1] is w and s[2] is b for s, (w, b) in zip(seen, wanted, strict=True))


class Two(nn.Module):
    """A layer within a layer, and one whose forward somebody has set."""

    def __init__(self):
        super().__init__()
        self.inner, self.theirs = nn.Sequential(nn.GRU(K, H), nn.Identity()), nn.GRU(K, H)
        self.theirs.forward = lambda _: "theirs"


@pytest.mark.parametrize("fails", [False, True])
def test_leaves_no_trace(fails):
    model = Two()
    before = [dict(vars(m)) for m in model.modules()]
    try:
        with unrolled(model):
            assert "forward" in vars(model.inner[0])
            assert model.theirs(torch.zeros(T, N, K)) == "theirs"
            if fails:
                raise KeyError("something")
    except KeyError:
        assert fails
    assert [dict(vars(m)) for m in model.modules()] == before


def test_within_itself_the_outer_one_goes_on():
    layer = make("gru", {})
    with unrolled(layer):
        with unrolled(layer):
            pass
        assert "forward" in vars(layer)
    assert "forward" not in vars(layer)


def test_a_copy_made_under_it_is_its_own():
    layer = make("lstm", {})
    inputs = arguments(layer, False)
    with unrolled(layer):
        twin = copy.deepcopy(layer)
    with torch.no_grad():
        for p in layer.parameters():
            p.zero_()
    assert twin(*inputs)[0].abs().sum() > 0


def test_hooks_of_the_layer_still_run():
    layer, seen = make("lstm", {}), []
    layer.register_forward_hook(lambda _module, _args, output: seen.append(output[0].shape))
    with unrolled(layer):
        layer(*arguments(layer, False))
    assert seen == [(T, N, H)]


def test_parametrized_weights_are_used():
    layer = weight_norm(make("lstm", {}), "weight_hh_l0")
    with torch.no_grad():
        layer.parametrizations.weight_hh_l0.original0.mul_(3)
    inputs = arguments(layer, False)
    expected = derivatives(layer, inputs)
    with unrolled(layer):
        assert "forward" in vars(layer)
        torch.testing.assert_close(derivatives(layer, inputs), expected, rtol=1e-12, atol=1e-12)


def test_packed_sequences_are_left_to_torch():
    layer = make("lstm", {"batch_first": True})
    packed = pack_padded_sequence(torch.randn(N, T, K, dtype=torch.float64), [3, 3, 2, 1], batch_first=True)
    expected = pad_packed_sequence(layer(packed)[0])[0]
    with unrolled(layer):
        torch.testing.assert_close(pad_packed_sequence(layer(packed)[0])[0], expected)


def test_dropout_between_layers_is_off_in_evaluation_and_torchs_in_training():
    layer = make("gru", {"num_layers": 2, "dropout": 0.5})
    inputs = arguments(layer, False)
    expected = layer(*inputs)[0]
    with unrolled(layer):
        torch.testing.assert_close(layer(*inputs)[0], expected)
        layer.train()
        assert (layer(*inputs)[0] - expected).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_what_torch_refuses_is_refused(kind):
    layer = make(kind, {})
    wrong = [torch.zeros(T, N, K + 1), torch.zeros(T, N, 1, K), torch.zeros(0, N, K)]
    state = arguments(layer, True)
    for inputs in [*([w.double()] for w in wrong), [state[0][:, :2], *state[1:]], [state[0][:, 0], *state[1:]]]:
        for context in (nn.Module(), layer):
            with unrolled(context), pytest.raises((RuntimeError, ValueError)):
                call(layer, inputs)


CELLS = {
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
    "tanh": nn.RNNCell,
    "relu": lambda *a, **k: nn.RNNCell(*a, nonlinearity="relu", **k),
}


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", CELLS)
def test_cells(kind, bias, given, batched):
    torch.manual_seed(0)
    cell = CELLS[kind](K, H, bias=bias).double()
    rows = [N] if batched else []
    x = torch.randn(*rows, K, dtype=torch.float64, requires_grad=True)
    state = tuple(
        torch.randn(*rows, H, dtype=torch.float64, requires_grad=True) for _ in range(2 if kind == "lstm" else 1)
    )

    def results():
        hx = (state if kind == "lstm" else state[0]) if given else None
        out = cell(x, hx)
        assert isinstance(out, tuple) == (kind == "lstm")
        out = out if kind == "lstm" else (out,)
        wanted = [x, *(state if given else []), *cell.parameters()]
        return [*out, *torch.autograd.grad(sum((t.sin() * (i + 1)).sum() for i, t in enumerate(out)), wanted)]

    expected = results()
    with unrolled(cell):
        assert "forward" in vars(cell)
        for ours, theirs in zip(results(), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        with pytest.raises(RuntimeError):
            cell(x, tuple(s[..., :2] for s in state) if kind == "lstm" else state[0][..., :2])
    assert "forward" not in vars(cell)
