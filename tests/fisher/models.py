"""Small models, most of them awkward: each is a way in which layers, weights and examples can be wired."""

import warnings

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

N = 11
"""Examples in a batch; some models have another dimension of that size on purpose."""


class Model(nn.Module):
    """Parts, and how they are put together: a function of the model and the inputs."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def mlp(**options):
    return nn.Sequential(nn.Linear(6, 7, **options), nn.Tanh(), nn.Linear(7, 4))


def sequences(x):
    """Three positions of two."""
    return x.unflatten(1, (3, 2))


def weight(*shape):
    return nn.Parameter(torch.randn(*shape) / 2)


def frozen(module):
    return module.requires_grad_(False)


# -- weights in several places, or where no layer is called --------------------------------------------------------


def tied():
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Linear(6, 4))


def tied_transposed():
    """An autoencoder's decoder, the encoder's weight transposed."""
    return Model(
        lambda m, x: m.out(functional.linear(torch.tanh(m.encoder(x)), m.encoder.weight.T)),
        encoder=nn.Linear(6, 5),
        out=nn.Linear(6, 4),
    )


def tied_convolutions():
    first, second = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second, nn.Flatten(), nn.Linear(18, 4))


def two_names():
    """One layer under two names."""
    layer = nn.Linear(6, 6)
    return Model(lambda m, x: m.out(torch.tanh(m.a(x)) + m.b(x)), a=layer, b=layer, out=nn.Linear(6, 4))


def reused():
    return Model(
        lambda m, x: m.out(torch.tanh(m.layer(torch.tanh(m.layer(x))))), layer=nn.Linear(6, 6), out=nn.Linear(6, 4)
    )


def reused_in_another_order():
    """Called twice, the second time with two examples swapped: rows of the two calls do not belong together."""

    def swapped(x):
        return torch.cat([x[1:2], x[:1], x[2:]])

    return Model(
        lambda m, x: m.out(torch.tanh(m.layer(x)) + swapped(m.layer(swapped(x)).sin())),
        layer=nn.Linear(6, 6),
        out=nn.Linear(6, 4),
    )


def reused_on_both():
    """Vectors and sequences through the same layer."""
    return Model(
        lambda m, x: m.out(torch.tanh(m.layer(sequences(x))).sum(1) + m.layer(x[:, :2])),
        layer=nn.Linear(2, 5),
        out=nn.Linear(5, 4),
    )


def hidden_use():
    """A weight that is used by its layer and, unseen by any hook, once more."""
    return Model(
        lambda m, x: m.out(torch.tanh(functional.linear(torch.tanh(m.layer(x)), m.layer.weight))),
        layer=nn.Linear(6, 6),
        out=nn.Linear(6, 4),
    )


def never_called():
    return Model(
        lambda m, x: m.out(torch.tanh(functional.linear(x, m.layer.weight, m.layer.bias))),
        layer=nn.Linear(6, 6),
        out=nn.Linear(6, 4),
    )


def gated():
    """A second use of a weight that is dead in the first batch: only the graph shows it."""
    return Model(
        lambda m, x: m.out(
            torch.tanh(m.layer(x)) + torch.relu(x[:, :1] - 5) * functional.linear(x, m.layer.weight),
        ),
        layer=nn.Linear(6, 6),
        out=nn.Linear(6, 4),
    )


def patched():
    """A layer of a known type whose forward somebody has replaced."""
    model = mlp()
    model[0].forward = lambda x: functional.linear(x, 2 * model[0].weight, model[0].bias)
    return model


def hooked():
    """A hook that changes a layer's output."""
    model = mlp()
    model[0].register_forward_hook(lambda _module, _args, output: 1.5 * output)
    return model


class Cosine(nn.Linear):
    """A subclass that computes something else."""

    def forward(self, x):
        return functional.linear(functional.normalize(x), functional.normalize(self.weight), self.bias)


def by_keyword():
    return Model(lambda m, x: m.out(input=torch.tanh(m.layer(input=x))), layer=nn.Linear(6, 5), out=nn.Linear(5, 4))


# -- bare parameters ----------------------------------------------------------------------------------------------


def bare():
    """A scale and a shift of no layer."""
    return Model(lambda m, x: m.out(x * m.scale + m.shift), scale=weight(6), shift=weight(6), out=nn.Linear(6, 4))


def functional_only():
    return Model(
        lambda m, x: functional.linear(torch.tanh(functional.linear(x, m.first, m.bias)), m.second),
        first=weight(5, 6),
        bias=weight(5),
        second=weight(4, 5),
    )


def one_row():
    """`functional.linear` with a vector for a weight."""
    return Model(lambda m, x: m.out(functional.linear(x, m.row)[:, None]), row=weight(6), out=nn.Linear(1, 4))


def slices():
    """Several linear maps in one parameter."""
    return Model(
        lambda m, x: functional.linear(functional.linear(x, m.all[:5]).tanh(), m.all[5:, :5], m.all[5:, 5]),
        all=weight(9, 6),
    )


def weight_and_bias():
    """A row of the weight is the bias."""
    return Model(lambda m, x: m.out(functional.linear(x, m.all, m.all[0])), all=weight(6, 6), out=nn.Linear(6, 4))


def examples_as_weights():
    return Model(lambda m, x: functional.linear(m.classes, m.layer(x)).T, layer=nn.Linear(6, 5), classes=weight(4, 5))


def shared_bias():
    """One bias of a layer and of a norm."""
    layer, norm = nn.Linear(6, 6), nn.LayerNorm(6)
    norm.bias = layer.bias
    return nn.Sequential(layer, norm, nn.Tanh(), nn.Linear(6, 4))


def matrix_products():
    return Model(
        lambda m, x: torch.einsum("nk,kc->nc", torch.tanh(x @ m.first + m.bias), m.second),
        first=weight(6, 5),
        bias=weight(5),
        second=weight(5, 4),
    )


def lists_of_parameters():
    return Model(
        lambda m, x: m.out(x * m.scales[0] + m.by_name["b"] * m.scales[1]),
        scales=nn.ParameterList([weight(6), weight(6)]),
        by_name=nn.ParameterDict({"a": weight(6), "b": weight(6)}),
        out=nn.Linear(6, 4),
    )


def prompt():
    """Learned tokens in front of the sequence, and learned positions."""

    def forward(m, x):
        tokens = torch.cat([m.tokens.expand(len(x), 2, 4), m.embed(sequences(x))], 1) + m.positions
        return m.out(m.layer(tokens)[:, 0])

    return Model(
        forward,
        tokens=weight(1, 2, 4),
        positions=weight(5, 4),
        embed=nn.Linear(2, 4),
        layer=nn.TransformerEncoderLayer(4, 2, 5, batch_first=True),
        out=nn.Linear(4, 4),
    )


def hypernetwork():
    """Weights that are computed from the example."""
    return Model(
        lambda m, x: torch.einsum("nck,nk->nc", m.generate(x).unflatten(1, (4, 6)), x) + m.shift,
        generate=nn.Linear(6, 24),
        shift=weight(4),
    )


# -- parts that are frozen, unused, dead, random ------------------------------------------------------------------


def frozen_weight():
    model = mlp()
    model[0].weight.requires_grad_(False)
    return model


def frozen_norms():
    return nn.Sequential(nn.Conv2d(2, 3, 3), frozen(nn.BatchNorm2d(3)), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4))


def frozen_attention():
    """A trainable layer before a frozen transformer, which in evaluation mode has a fast path without gradients."""
    return Model(
        lambda m, x: m.out(m.layer(m.embed(sequences(x))).mean(1)),
        embed=nn.Linear(2, 4),
        layer=frozen(nn.TransformerEncoderLayer(4, 2, 5, batch_first=True)),
        out=frozen(nn.Linear(4, 4)),
    )


def lora():
    """Low-rank changes of frozen layers (Hu et al. 2022)."""

    def adapted(layer):
        return Model(
            lambda m, x: m.base(x) + 2.0 * m.up(m.dropout(m.down(x))),
            base=frozen(layer),
            down=nn.Linear(layer.in_features, 2, bias=False),
            up=nn.Linear(2, layer.out_features, bias=False),
            dropout=nn.Dropout(0.1),
        )

    return nn.Sequential(adapted(nn.Linear(6, 5)), nn.ReLU(), adapted(nn.Linear(5, 4)))


def branches():
    """Heads of which one is chosen, all computed; a branch without gradient; a layer that nobody calls."""
    return Model(
        lambda m, x: [head(x) for head in m.heads][1] + m.aside(x).detach(),
        heads=nn.ModuleList(nn.Linear(6, 4) for _ in range(3)),
        aside=nn.Linear(6, 4),
        unused=nn.Linear(6, 4),
        unused_too=weight(3),
    )


def backbone_without_gradients():
    """A part that is run without gradients although its parameters ask for them."""

    def forward(m, x):
        with torch.no_grad():
            h = m.backbone(x)
        return m.out(h)

    return Model(forward, backbone=nn.Linear(6, 6), out=nn.Linear(6, 4))


def dropout():
    return nn.Sequential(
        nn.Linear(6, 7), nn.Dropout(0.5), nn.Linear(7, 7), nn.AlphaDropout(0.5), nn.ReLU(), nn.Linear(7, 4)
    )


# -- where examples are -------------------------------------------------------------------------------------------


def on_sequences():
    return Model(
        lambda m, x: m.out(torch.tanh(m.layer(sequences(x)))).mean(1), layer=nn.Linear(2, 5), out=nn.Linear(5, 4)
    )


def on_grids():
    """Linear on two dimensions of positions."""
    return Model(
        lambda m, x: m.out(torch.tanh(m.layer(x.unflatten(1, (3, 2, 1))))).mean((1, 2)),
        layer=nn.Linear(1, 5),
        out=nn.Linear(5, 4),
    )


def positions_as_rows():
    """Positions of all examples as rows."""
    return Model(
        lambda m, x: m.out(torch.tanh(m.layer(x.reshape(-1, 2))).unflatten(0, (len(x), 3)).flatten(1)),
        layer=nn.Linear(2, 5),
        out=nn.Linear(15, 4),
    )


def two_views():
    """Each example twice in the batch that the layers see, as in contrastive training."""

    def forward(m, x):
        a, b = m.layer(torch.cat([x, x.flip(1)])).tanh().chunk(2)
        return m.out(a * b)

    return Model(forward, layer=nn.Linear(6, 5), out=nn.Linear(5, 4))


def sorted_examples():
    """The examples sorted, and put back in their order afterwards."""

    def forward(m, x):
        order = x[:, 0].argsort()
        return m.out(torch.tanh(m.layer(x[order])))[order.argsort()]

    return Model(forward, layer=nn.Linear(6, 5), out=nn.Linear(5, 4))


def time_first():
    """Layers that see time in their first dimension, as long as the batch."""

    def forward(m, x):
        steps = torch.cat([x, x, x, x], 1)[:, :22].unflatten(1, (11, 2)).transpose(0, 1)
        return m.out(torch.tanh(m.mix(torch.tanh(m.layer(steps)))[0][-1]))

    return Model(forward, layer=nn.Linear(2, 3), mix=nn.LSTM(3, 3), out=nn.Linear(3, 4))


def prototypes():
    """A layer whose rows are not examples, as many as there are."""
    return Model(
        lambda m, x: m.layer(x) @ m.project(m.prototypes).T,
        layer=nn.Linear(6, 3),
        project=nn.Linear(2, 3),
        prototypes=torch.randn(N, 2),
    )


def one_after_the_other():
    """Each example takes its own way: a branch on data."""

    def forward(m, x):
        return torch.stack([m.a(row) if row[0] > 0 else m.b(row) for row in x])

    return Model(forward, a=nn.Linear(6, 4), b=nn.Linear(6, 4))


def mixture_of_experts():
    """Layers that see some of the examples."""

    def forward(m, x):
        choice = m.gate(x).argmax(-1)
        out = x.new_zeros(len(x), 4)
        for i, expert in enumerate(m.experts):
            out = out.index_add(0, (choice == i).nonzero()[:, 0], expert(x[choice == i]))
        return out * m.gate(x).softmax(-1).amax(-1, keepdim=True)

    return Model(forward, gate=nn.Linear(6, 2), experts=nn.ModuleList(nn.Linear(6, 4) for _ in range(2)))


def joined():
    """Outputs that are put together from pieces."""

    def forward(m, x):
        halves = torch.stack([m.a(x), m.b(x)], -1).flatten(1)
        return torch.cat([torch.einsum("nk,nk->n", halves, halves)[:, None], halves[:, 1:]], 1)

    return Model(forward, a=nn.Linear(6, 2), b=nn.Linear(6, 2))


# -- in place -----------------------------------------------------------------------------------------------------


def changes_its_input():
    return Model(
        lambda m, x: m.out(torch.tanh(m.norm(x.mul_(0.1).add_(1.0) ** 2))), norm=nn.LayerNorm(6), out=nn.Linear(6, 4)
    )


def in_place_on_a_view():
    """An in-place operation on a layer's output on sequences, which is a view."""
    return Model(lambda m, x: m.out(m.layer(sequences(x)).relu_()).mean(1), layer=nn.Linear(2, 5), out=nn.Linear(5, 4))


def in_place_residual():
    def forward(m, x):
        h = m.embed(x)
        for layer in m.layers:
            y = layer(h)
            y += h
            h = y
        return m.out(h.mul_(2).tanh_())

    return Model(
        forward,
        embed=nn.Linear(6, 5),
        layers=nn.ModuleList(nn.Sequential(nn.Linear(5, 5), nn.ReLU(inplace=True), nn.Linear(5, 5)) for _ in range(2)),
        out=nn.Linear(5, 4),
    )


# -- parametrizations ---------------------------------------------------------------------------------------------


def weight_norm():
    return nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 4))


def spectral_norm():
    return nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 4))


def orthogonal():
    layer = parametrizations.orthogonal(nn.Linear(6, 5), orthogonal_map="cayley")
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(5, 4))


def symmetric():
    layer = nn.Linear(6, 6)
    parametrize.register_parametrization(layer, "weight", Model(lambda _, w: w.triu() + w.triu(1).T))
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(6, 4))


def weight_norm_by_hook():
    """The older weight_norm, which sets an attribute before each call."""
    return nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 4))


# -- attention ----------------------------------------------------------------------------------------------------


def attention(**options):
    """nn.MultiheadAttention never calls its out_proj as a module."""
    return Model(
        lambda m, x: m.out(m.attention(*[m.embed(sequences(x))] * 3)[0].mean(1)),
        embed=nn.Linear(2, 4),
        attention=nn.MultiheadAttention(4, 2, batch_first=True, **options),
        out=nn.Linear(4, 4),
    )


def separate_projections():
    """Attention by hand; the keys' bias changes nothing, so that its gradient is all rounding."""

    def forward(m, x):
        x = m.embed(sequences(x))
        weights = (m.query(x) @ m.key(x).mT).softmax(-1)
        return m.out((weights @ m.value(x)).mean(1))

    return Model(
        forward,
        embed=nn.Linear(2, 4),
        query=nn.Linear(4, 4),
        key=nn.Linear(4, 4),
        value=nn.Linear(4, 4),
        out=nn.Linear(4, 4),
    )


def attention_time_first():
    def forward(m, x):
        x = m.embed(sequences(x)).transpose(0, 1)
        return m.out(m.attention(x, x, x, need_weights=False)[0][-1])

    return Model(forward, embed=nn.Linear(2, 4), attention=nn.MultiheadAttention(4, 2), out=nn.Linear(4, 4))


def cross_attention():
    """Keys and values of other sizes than the query."""

    def forward(m, x):
        keys, values = x.unflatten(1, (2, 3)), x.unflatten(1, (2, 3))[..., :2]
        return m.out(m.attention(m.embed(sequences(x)), keys, values)[0].sum(1))

    return Model(
        forward,
        embed=nn.Linear(2, 4),
        attention=nn.MultiheadAttention(4, 2, kdim=3, vdim=2, batch_first=True),
        out=nn.Linear(4, 4),
    )


def masked_attention():
    """A causal mask, and positions that the example itself declares to be padding."""

    def forward(m, x):
        padding = sequences(x)[..., 0] > 0.5
        padding = torch.cat([torch.zeros_like(padding[:, :1]), padding[:, 1:]], 1)
        x = m.embed(sequences(x))
        return m.out(m.attention(x, x, x, key_padding_mask=padding, attn_mask=m.causal, need_weights=False)[0].sum(1))

    return Model(
        forward,
        embed=nn.Linear(2, 4),
        attention=nn.MultiheadAttention(4, 2, batch_first=True),
        causal=torch.ones(3, 3).triu(1).bool(),
        out=nn.Linear(4, 4),
    )


def transformer(**options):
    return Model(
        lambda m, x: m.out(m.layer(m.embed(sequences(x))).mean(1)),
        embed=nn.Linear(2, 4),
        layer=nn.TransformerEncoderLayer(4, 2, 5, batch_first=True, **options),
        out=nn.Linear(4, 4),
    )


def transformer_stack():
    """Several layers with padding, for which torch has a path with nested tensors."""
    layer = nn.TransformerEncoderLayer(4, 2, 5, batch_first=True)
    padding = torch.tensor([[False, False, True]])
    return Model(
        lambda m, x: m.out(
            m.stack(m.embed(sequences(x)), src_key_padding_mask=m.padding.expand(len(x), 3))[:, :2].mean(1)
        ),
        embed=nn.Linear(2, 4),
        stack=nn.TransformerEncoder(layer, 2),
        padding=padding,
        out=nn.Linear(4, 4),
    )


def decoder():
    return Model(
        lambda m, x: m.out(m.layer(m.embed(sequences(x)), m.memory(x.unflatten(1, (2, 3)))).mean(1)),
        embed=nn.Linear(2, 4),
        memory=nn.Linear(3, 4),
        layer=nn.TransformerDecoderLayer(4, 2, 5, batch_first=True, norm_first=True),
        out=nn.Linear(4, 4),
    )


def transformer_reused():
    return Model(
        lambda m, x: m.out(m.layer(m.layer(m.embed(sequences(x)))).mean(1)),
        embed=nn.Linear(2, 4),
        layer=nn.TransformerEncoderLayer(4, 2, 5, batch_first=True),
        out=nn.Linear(4, 4),
    )


# -- recurrent ----------------------------------------------------------------------------------------------------


def recurrent(layer):
    size = (layer.proj_size or layer.hidden_size) * (2 if layer.bidirectional else 1)
    return Model(lambda m, x: m.out(m.layer(sequences(x))[0][:, -1]), layer=layer, out=nn.Linear(size, 4))


def recurrent_from_a_learned_state():
    def forward(m, x):
        output, last = m.layer(sequences(x).transpose(0, 1), m.state.expand(2, len(x), 3).contiguous())
        return m.out(torch.cat([output[-1], last[0]], 1))

    return Model(forward, layer=nn.GRU(2, 3, num_layers=2), state=weight(2, 1, 3), out=nn.Linear(6, 4))


def packed():
    """Sequences of different lengths, packed."""

    def forward(m, x):
        lengths = 1 + (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
        steps = pack_padded_sequence(sequences(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
        return m.out(m.layer(steps)[1][0][-1])

    return Model(forward, layer=nn.LSTM(2, 3, batch_first=True), out=nn.Linear(3, 4))


def cells():
    def forward(m, x):
        h = x.new_zeros(len(x), 3)
        for step in sequences(x).unbind(1):
            h = m.gru(step, h)
        return m.out(m.lstm(h)[0])

    return Model(forward, gru=nn.GRUCell(2, 3), lstm=nn.LSTMCell(3, 3), out=nn.Linear(3, 4))


# -- convolutions and norms, on images [2, 5, 5] ------------------------------------------------------------------


def convolution(layer, out):
    """One layer, then numbers by twos into four classes."""
    return nn.Sequential(layer, nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * out, 4))


def squeeze_excite():
    """Channels scaled by what all positions say (Hu et al. 2018)."""

    def forward(m, x):
        x = m.conv(x)
        return m.out((x * m.excite(torch.relu_(m.squeeze(x.mean((2, 3))))).sigmoid()[:, :, None, None]).amax((2, 3)))

    return Model(forward, conv=nn.Conv2d(2, 4, 3), squeeze=nn.Linear(4, 2), excite=nn.Linear(2, 4), out=nn.Linear(4, 4))


def residual_block():
    def forward(m, x):
        y = m.norm2(m.conv2(m.act(m.norm1(m.conv1(x)))))
        y += m.shortcut(x)
        return m.out(m.act(y).mean((2, 3)))

    return Model(
        forward,
        conv1=nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False),
        norm1=nn.BatchNorm2d(4),
        conv2=nn.Conv2d(4, 4, 3, padding=1, bias=False),
        norm2=nn.BatchNorm2d(4),
        shortcut=nn.Conv2d(2, 4, 1, stride=2, bias=False),
        act=nn.ReLU(inplace=True),
        out=nn.Linear(4, 4),
    )


def separable():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 3, 1),
        nn.ReLU6(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 4),
    )


def norms(norm):
    return nn.Sequential(nn.Conv2d(2, 4, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(36, 4))


def reused_convolution():
    return Model(
        lambda m, x: m.out(m.conv(torch.tanh(m.conv(x))).flatten(1)),
        conv=nn.Conv2d(2, 2, 3, padding=1),
        out=nn.Linear(50, 4),
    )


def reused_norm():
    return Model(
        lambda m, x: m.out(m.norm(torch.tanh(m.layer(m.norm(x))))),
        norm=nn.LayerNorm(6),
        layer=nn.Linear(6, 6),
        out=nn.Linear(6, 4),
    )


# -- embeddings, of tokens [5] out of seven -----------------------------------------------------------------------


def embedding(**options):
    return Model(
        lambda m, x: m.out(torch.tanh(m.embed(x)).flatten(1)), embed=nn.Embedding(7, 3, **options), out=nn.Linear(15, 4)
    )


def language_model():
    """The output layer is the embedding."""
    model = Model(
        lambda m, x: m.out(torch.tanh(m.mix(m.embed(x))).mean(1)),
        embed=nn.Embedding(7, 3),
        mix=nn.Linear(3, 3),
        out=nn.Linear(3, 7, bias=False),
    )
    model.out.weight = model.embed.weight
    return model


def bag(mode):
    return Model(lambda m, x: m.out(m.embed(x)), embed=nn.EmbeddingBag(7, 3, mode=mode), out=nn.Linear(3, 4))


# -- machinery ----------------------------------------------------------------------------------------------------


def checkpointed():
    return Model(
        lambda m, x: m.out(checkpoint(m.block, x, use_reentrant=False)),
        block=nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 5), nn.ReLU(inplace=True)),
        out=nn.Linear(5, 4),
    )


class Square(torch.autograd.Function):
    """An operation that vmap cannot see into."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.detach().square()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient * ctx.saved_tensors[0]


def custom_function():
    return Model(lambda m, x: m.out(Square.apply(m.layer(x))), layer=nn.Linear(6, 5), out=nn.Linear(5, 4))


def inner_gradient():
    """Features that are themselves a gradient, as in models of forces."""

    def forward(m, x):
        x = x.detach().requires_grad_()
        energy = m.energy(torch.tanh(m.layer(x))).sum()
        return m.out(torch.autograd.grad(energy, x, create_graph=True)[0])

    return Model(forward, layer=nn.Linear(6, 5), energy=nn.Linear(5, 1), out=nn.Linear(6, 4))


def jacobian():
    """The same by torch.func, example by example."""

    def forward(m, x):
        slope = torch.func.vmap(torch.func.grad(lambda row: torch.sin(m.layer(row)).sum()))
        return slope(x) @ m.out

    return Model(forward, layer=nn.Linear(6, 5), out=weight(6, 4))


def fourier():
    return Model(lambda m, x: m.out(torch.fft.fft(m.layer(x)).abs()), layer=nn.Linear(6, 5), out=nn.Linear(5, 4))


def bilinear():
    return Model(lambda m, x: m.layer(x[:, :3], x[:, 3:]), layer=nn.Bilinear(3, 3, 4))


VECTORS = {
    "mlp": mlp,
    "no bias": lambda: mlp(bias=False),
    "two classes": lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)),
    "in-place": lambda: nn.Sequential(nn.Linear(6, 7), nn.ReLU(inplace=True), nn.Linear(7, 4)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(6, 4)
    ),
    "batch norm": lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 4)),
    "layer norm": lambda: nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 4)),
    "rms norm": lambda: nn.Sequential(nn.Linear(6, 5), nn.RMSNorm(5), nn.Linear(5, 4)),
    "prelu": lambda: nn.Sequential(nn.Linear(6, 5), nn.PReLU(5), nn.Linear(5, 4), nn.PReLU()),
    "tied": tied,
    "tied transposed": tied_transposed,
    "two names": two_names,
    "reused": reused,
    "reused in another order": reused_in_another_order,
    "reused on both": reused_on_both,
    "reused norm": reused_norm,
    "hidden use": hidden_use,
    "never called": never_called,
    "gated": gated,
    "patched": patched,
    "hooked": hooked,
    "subclass": lambda: nn.Sequential(Cosine(6, 5), nn.Tanh(), nn.Linear(5, 4)),
    "by keyword": by_keyword,
    "bare": bare,
    "functional only": functional_only,
    "matrix products": matrix_products,
    "one row": one_row,
    "slices": slices,
    "weight and bias": weight_and_bias,
    "examples as weights": examples_as_weights,
    "shared bias": shared_bias,
    "lists of parameters": lists_of_parameters,
    "prompt": prompt,
    "hypernetwork": hypernetwork,
    "frozen": frozen_weight,
    "frozen attention": frozen_attention,
    "lora": lora,
    "branches": branches,
    "backbone without gradients": backbone_without_gradients,
    "dropout": dropout,
    "sequences": on_sequences,
    "grids": on_grids,
    "positions as rows": positions_as_rows,
    "two views": two_views,
    "sorted examples": sorted_examples,
    "time first": time_first,
    "prototypes": prototypes,
    "one after the other": one_after_the_other,
    "mixture of experts": mixture_of_experts,
    "joined": joined,
    "changes its input": changes_its_input,
    "in-place on a view": in_place_on_a_view,
    "in-place residual": in_place_residual,
    "weight norm": weight_norm,
    "spectral norm": spectral_norm,
    "orthogonal": orthogonal,
    "symmetric": symmetric,
    "weight norm by hook": weight_norm_by_hook,
    "attention": attention,
    "separate projections": separate_projections,
    "attention with added keys": lambda: attention(add_bias_kv=True, add_zero_attn=True),
    "attention, time first": attention_time_first,
    "cross attention": cross_attention,
    "masked attention": masked_attention,
    "transformer": transformer,
    "transformer, norm first": lambda: transformer(norm_first=True, activation="gelu"),
    "transformer, no bias": lambda: transformer(bias=False),
    "transformer stack": transformer_stack,
    "transformer reused": transformer_reused,
    "decoder": decoder,
    "lstm": lambda: recurrent(nn.LSTM(2, 3, batch_first=True)),
    "lstm with everything": lambda: recurrent(
        nn.LSTM(2, 3, num_layers=2, bidirectional=True, proj_size=2, dropout=0.5, batch_first=True)
    ),
    "gru": lambda: recurrent(nn.GRU(2, 3, batch_first=True)),
    "rnn": lambda: recurrent(nn.RNN(2, 3, nonlinearity="relu", bias=False, batch_first=True)),
    "learned state": recurrent_from_a_learned_state,
    "packed": packed,
    "cells": cells,
    "checkpointed": checkpointed,
    "custom function": custom_function,
    "inner gradient": inner_gradient,
    "jacobian": jacobian,
    "fourier": fourier,
    "bilinear": bilinear,
    "scripted": lambda: torch.jit.script(mlp()),
    "compiled": lambda: torch.compile(mlp(), backend="aot_eager"),
}

IMAGES = {
    "groups and dilation": lambda: convolution(nn.Conv2d(2, 4, 2, groups=2, dilation=2), 4),
    "same padding": lambda: convolution(nn.Conv2d(2, 3, (1, 3), padding="same", dilation=2), 3),
    "circular padding": lambda: convolution(nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="circular"), 3),
    "reflected padding": lambda: convolution(nn.Conv2d(2, 3, 3, stride=2, padding=1, padding_mode="reflect"), 3),
    "channels last": lambda: convolution(nn.Conv2d(2, 3, 3), 3).to(memory_format=torch.channels_last),
    "transposed convolution": lambda: convolution(
        nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1, groups=2), 4
    ),
    "one dimension": lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(2, 3, 5, stride=5), nn.Flatten(), nn.Linear(15, 4)),
    "three dimensions": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2)), nn.Conv3d(1, 2, (2, 3, 3)), nn.Tanh(), nn.Flatten(), nn.Linear(18, 4)
    ),
    "separable": separable,
    "squeeze and excite": squeeze_excite,
    "residual block": residual_block,
    "frozen norms": frozen_norms,
    "batch norm 2d": lambda: norms(nn.BatchNorm2d(4)),
    "group norm": lambda: norms(nn.GroupNorm(2, 4)),
    "instance norm": lambda: norms(nn.InstanceNorm2d(4, affine=True)),
    "layer norm of images": lambda: norms(nn.LayerNorm([4, 3, 3])),
    "tied convolutions": tied_convolutions,
    "reused convolution": reused_convolution,
}

TOKENS = {
    "embedding": embedding,
    "padding index": lambda: embedding(padding_idx=1),
    "scaled by frequency": lambda: embedding(scale_grad_by_freq=True),
    "language model": language_model,
    "bag of words": lambda: bag("sum"),
    "mean of words": lambda: bag("mean"),
}

MODELS = VECTORS | IMAGES | TOKENS


def make(name):
    """The model in evaluation mode, with running statistics, inputs and targets."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but in use
        model = MODELS[name]().double()
    inputs = torch.randn(N, *((2, 5, 5) if name in IMAGES else (6,)), dtype=torch.float64)
    if name in TOKENS:
        inputs = torch.randint(0, 7, (N, 5))
    if name == "gated":
        inputs[6:, 0] += 10
    n_outputs = model(inputs.clone()).shape[1]  # in training mode
    return model.eval(), inputs, torch.randint(0, n_outputs, (N,))
