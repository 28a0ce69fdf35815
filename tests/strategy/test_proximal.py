"""The proximal step against a dense solve in float64, and what it is for: a penalty that no strength makes diverge."""

import copy
import itertools
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, RMSprop

from cl_fisher import EWC, OnlineEWC
from cl_fisher.config import conf_dir, register_resolvers, validate
from cl_fisher.error import InputError
from cl_fisher.strategy.compose import Compose
from cl_fisher.strategy.finetune import Finetune
from cl_fisher.strategy.proximal import check_optimizer, metric

OPTIMIZERS = {
    "sgd": partial(SGD, lr=0.05),
    "momentum": partial(SGD, lr=0.05, momentum=0.9),
    "nesterov": partial(SGD, lr=0.05, momentum=0.9, nesterov=True),
    "dampening": partial(SGD, lr=0.05, momentum=0.9, dampening=0.5),
    "decay": partial(SGD, lr=0.05, momentum=0.5, weight_decay=0.1),
    "adam": partial(Adam, lr=1e-2),
    "betas": partial(Adam, lr=1e-2, betas=(0.5, 0.9), eps=1e-3),
    "amsgrad": partial(Adam, lr=1e-2, amsgrad=True),
    "adamw": partial(AdamW, lr=1e-2, weight_decay=0.1),
}
STRUCTURES = ("diagonal", "identity", "kronecker", "dense", "low_rank", "ekfac", "block_diagonal", "mixed")


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def data(task, dtype=torch.float64):
    generator = torch.Generator().manual_seed(task)
    inputs = torch.randn(12, 4, generator=generator, dtype=torch.float64).to(dtype)
    return inputs, torch.randint(0, 3, (12,), generator=generator)


def after_two_tasks(strategy=EWC, strength=3.0, **options):
    """A strategy that two tasks were consolidated with, at weights that have moved on since."""
    made = strategy(network(), strength=strength, step="proximal", **options)
    for task in range(3):
        torch.manual_seed(10 + task)
        with torch.no_grad():
            for p in made.model.parameters():
                p.add_(0.3 * torch.randn_like(p))
        if task < 2:
            made.consolidate([data(task)])
    return made


def descend(model, optimizer, task=5):
    optimizer.zero_grad()
    inputs, targets = data(task, next(model.parameters()).dtype)
    cross_entropy(model(inputs), targets).backward()
    optimizer.step()


def flat(model):
    return torch.cat([p.detach().flatten().double() for p in model.parameters()])


def step_sizes(model, optimizer):
    """s / M of each weight by the optimizer's own formula, from its state, or 0 where it does not step; [P]."""
    found = {}
    for group in optimizer.param_groups:
        for p in group["params"]:
            state = optimizer.state.get(p, {})
            if isinstance(optimizer, SGD):
                m, d = group["momentum"], group["dampening"] if group["momentum"] else 0.0
                found[p] = torch.full_like(p, group["lr"] * sum((1 - d) * m**k for k in range(2000)))
            elif state:
                second = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
                root = (second / (1 - group["betas"][1] ** state["step"].item())) ** 0.5
                found[p] = group["lr"] / (root + group["eps"])
    return torch.cat([found.get(p, torch.zeros_like(p)).flatten() for p in model.parameters()]).double()


def minimum(ewc, weights, sizes):
    """argmin_v (v - w)^T M (v - w) / (2 s) + strength/2 q(v), by one dense solve over the weights that may move."""
    quadratic = ewc.quadratic
    precision = quadratic.precision.to_dense().double()
    centre = torch.cat([c.flatten() for c in quadratic.centre.values()]).double()
    slope = precision @ (weights - centre)
    if quadratic.linear:
        slope = slope + torch.cat([g.flatten() for g in quadratic.linear.values()]).double()
    free = (sizes > 0).nonzero().flatten()
    matrix = torch.diag(1 / sizes[free]) + ewc.strength * precision[free[:, None], free]
    moved = weights.clone()
    moved[free] -= torch.linalg.solve(matrix, ewc.strength * slope[free])
    return moved


def check_against_minimum(ewc, optimizer, rtol):
    for _ in range(3):
        descend(ewc.model, optimizer)
        expected = minimum(ewc, flat(ewc.model), step_sizes(ewc.model, optimizer))
        before = flat(ewc.model)
        ewc.after_step(optimizer)
        moved = flat(ewc.model) - before
        assert float(moved.norm()) > 1e-3
        assert float((moved - (expected - before)).norm()) <= rtol * float(moved.norm())


@pytest.mark.parametrize("strategy", [EWC, OnlineEWC])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_closed_form_of_a_diagonal(strategy, name):
    ewc = after_two_tasks(strategy)
    check_against_minimum(ewc, OPTIMIZERS[name](ewc.model.parameters()), 1e-12)


@pytest.mark.parametrize("name", ["sgd", "dampening"])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("strength", [3.0, 1e5])
def test_every_structure_under_gradient_descent(structure, name, strength):
    ewc = after_two_tasks(structure=structure, strength=strength)
    check_against_minimum(ewc, OPTIMIZERS[name](ewc.model.parameters()), 1e-8)


@pytest.mark.parametrize("name", ["adam", "amsgrad"])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("strength", [3.0, 100.0])
def test_every_structure_under_adam(structure, name, strength):
    ewc = after_two_tasks(structure=structure, strength=strength)
    check_against_minimum(ewc, OPTIMIZERS[name](ewc.model.parameters()), 1e-3)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("strength", [1e4, 1e6])
def test_what_adam_s_step_leaves_of_the_objective_where_the_penalty_is_stiff(structure, strength):
    """Conjugate gradients stop early there: nearly all of what could be won is won, in the objective of the step."""
    ewc = after_two_tasks(structure=structure, strength=strength)
    optimizer = Adam(ewc.model.parameters(), lr=1e-2)
    for _ in range(3):
        descend(ewc.model, optimizer)
        weights, sizes = flat(ewc.model), step_sizes(ewc.model, optimizer)
        best = minimum(ewc, weights, sizes)
        matrix = torch.diag(1 / sizes) + strength * ewc.quadratic.precision.to_dense()
        ewc.after_step(optimizer)
        left, before = flat(ewc.model) - best, weights - best
        assert float(left @ matrix @ left) < 1e-2 * float(before @ matrix @ before)


@pytest.mark.parametrize("name", ["momentum", "adam"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_several_learning_rates_and_parameters_that_do_not_move(structure, name):
    """A frozen parameter, one that the optimizer does not hold, one with a learning rate of 0."""
    ewc = after_two_tasks(structure=structure)
    first, hidden, second, last = ewc.model.parameters()
    hidden.requires_grad_(False)
    for groups, moving in (
        ([{"params": [first], "lr": 0.02}, {"params": [second, hidden]}], (first, second)),
        ([{"params": [first]}, {"params": [second, last], "lr": 0.0}], (first,)),
    ):
        optimizer = OPTIMIZERS[name](groups)
        descend(ewc.model, optimizer)
        sizes = step_sizes(ewc.model, optimizer)
        still = torch.cat([torch.full((p.numel(),), all(p is not m for m in moving)) for p in ewc.model.parameters()])
        sizes[still] = 0.0
        before, expected = flat(ewc.model), minimum(ewc, flat(ewc.model), sizes)
        ewc.after_step(optimizer)
        assert torch.equal(flat(ewc.model)[still], before[still])
        torch.testing.assert_close(flat(ewc.model), expected, rtol=1e-4, atol=1e-5)


def test_a_parameter_that_adam_never_stepped_stays():
    ewc = after_two_tasks()
    optimizer = Adam(ewc.model.parameters())
    descend(ewc.model, optimizer)
    optimizer.state.pop(ewc.model[0].weight)
    before = ewc.model[0].weight.detach().clone()
    ewc.after_step(optimizer)
    assert torch.equal(ewc.model[0].weight, before)
    assert id(ewc.model[0].weight) not in metric(optimizer)


class Quadratic(nn.Linear):
    """A loss (theta - b)^T A (theta - b) / 2 beside a penalty: the stationary point of both is one linear system."""

    def __init__(self):
        torch.manual_seed(3)
        super().__init__(4, 2, bias=False, dtype=torch.float64)
        root = torch.randn(8, 8, dtype=torch.float64)
        self.curvature = root @ root.T / 8
        self.target = torch.randn(8, dtype=torch.float64)

    def loss(self):
        d = self.weight.flatten() - self.target
        return 0.5 * d @ self.curvature @ d


def stationary(ewc, model, decay=0.0):
    precision, centre = ewc.quadratic.precision.to_dense(), ewc.quadratic.centre["weight"].flatten()
    matrix = model.curvature + ewc.strength * precision + decay * torch.eye(8).double()
    return torch.linalg.solve(matrix, model.curvature @ model.target + ewc.strength * precision @ centre)


def quadratic_problem(structure, strength):
    model = Quadratic()
    ewc = OnlineEWC(model, strength=strength, structure=structure, likelihood="gaussian", step="proximal")
    generator = torch.Generator().manual_seed(0)
    ewc.consolidate([(torch.randn(9, 4, generator=generator, dtype=torch.float64), torch.zeros(9, 2).double())])
    return model, ewc


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "dampening", "decay", "adam", "amsgrad"])
@pytest.mark.parametrize("structure", ["diagonal", "dense", "kronecker"])
@pytest.mark.parametrize("strength", [0.3, 1e4])
def test_a_stationary_point_is_a_fixed_point(name, structure, strength):
    model, ewc = quadratic_problem(structure, strength)
    optimizer = OPTIMIZERS[name]([model.weight])
    with torch.no_grad():
        best = stationary(ewc, model, decay=optimizer.param_groups[0]["weight_decay"])
        model.weight.copy_(best.view(2, 4))
    gradient = model.curvature @ (best - model.target)
    assert float(gradient.norm()) > 0.1
    if isinstance(optimizer, SGD) and (m := optimizer.param_groups[0]["momentum"]):  # as after many steps here
        d = optimizer.param_groups[0]["dampening"]
        whole = gradient + optimizer.param_groups[0]["weight_decay"] * best
        optimizer.state[model.weight]["momentum_buffer"] = (whole * (1 - d) / (1 - m)).view(2, 4)
    for _ in range(5):
        optimizer.zero_grad()
        model.loss().backward()
        optimizer.step()
        assert float((flat(model) - best).abs().max()) > 1e-4
        ewc.after_step(optimizer)
        torch.testing.assert_close(flat(model), best, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("structure", ["diagonal", "dense", "kronecker"])
@pytest.mark.parametrize("strength", [1.0, 1e3, 1e6])
def test_descent_ends_at_the_stationary_point(structure, strength):
    """At strengths where the gradient step would have left the numbers."""
    model, ewc = quadratic_problem(structure, strength)
    with torch.no_grad():
        model.weight.add_(1.0)
    optimizer = SGD([model.weight], lr=0.2, momentum=0.5)
    for _ in range(600):
        optimizer.zero_grad()
        model.loss().backward()
        optimizer.step()
        ewc.after_step(optimizer)
    torch.testing.assert_close(flat(model), stationary(ewc, model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["momentum", "adam"])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("strength", [1e6, 1e12])
def test_no_strength_diverges_and_a_huge_one_freezes(structure, name, strength):
    """In float32, with inputs that are always 0: their weights are unprotected and stay free."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    ewc = EWC(model, strength=strength, structure=structure, step="proximal")
    inputs, targets = data(0, torch.float32)
    padded = torch.cat([inputs, torch.zeros(12, 2)], 1)
    fisher = ewc.consolidate([(padded, targets)])
    optimizer = OPTIMIZERS[name](model.parameters())
    sharp = fisher.to_dense().double()
    start = flat(model)
    inputs, targets = torch.randn(12, 6), torch.randint(0, 3, (12,))
    for _ in range(20):
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        ewc.after_step(optimizer)
        assert all(p.isfinite().all() for p in model.parameters())
    moved = flat(model) - start
    values, vectors = torch.linalg.eigh(sharp)
    protected = vectors.T[values > 1e-3 * values.max()] @ moved
    assert float(moved.abs().max()) < 10
    assert float(protected.abs().max()) < 1e-3
    unused = moved[: model[0].weight.numel()].view(8, 6)[:, 4:]
    assert (float(unused.abs().max()) > 1e-2) == (structure != "identity")


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("strength", [0.0, 5.0])
def test_nothing_happens_without_strength_or_before_the_first_task(name, strength):
    ewc = after_two_tasks(strength=strength) if strength == 0 else EWC(network(), strength=strength, step="proximal")
    twin = copy.deepcopy(ewc.model)
    optimizer, other = (OPTIMIZERS[name](m.parameters()) for m in (ewc.model, twin))
    for _ in range(3):
        descend(twin, other)
        descend(ewc.model, optimizer)
        ewc.add_gradient()
        ewc.after_step(optimizer)
    assert torch.equal(flat(ewc.model), flat(twin))


@pytest.mark.parametrize("step", ["gradient", "proximal"])
def test_the_penalty_enters_once(step):
    """By the gradient, or after the step; never both."""
    ewc = after_two_tasks()
    ewc.step = step
    optimizer = SGD(ewc.model.parameters(), lr=0.0)
    descend(ewc.model, optimizer)
    gradient, weights = [p.grad.clone() for p in ewc.model.parameters()], flat(ewc.model)
    ewc.add_gradient()
    added = not all(torch.equal(p.grad, g) for p, g in zip(ewc.model.parameters(), gradient, strict=True))
    optimizer.param_groups[0]["lr"] = 0.1
    ewc.after_step(optimizer)
    assert added == (step == "gradient")
    assert torch.equal(flat(ewc.model), weights) == (step == "gradient")


def test_another_optimizer_is_refused():
    model = network()
    for known in OPTIMIZERS.values():
        check_optimizer(known(model.parameters()))
    with pytest.raises(
        InputError, match=r"SGD, Adam and AdamW and not for RMSprop: use one of these, or strategy\.step"
    ):
        check_optimizer(RMSprop(model.parameters()))


def test_a_composition_is_as_proximal_as_its_parts():
    parts = {"plain": Finetune, "held": partial(EWC, step="proximal")}
    assert Compose(network(), parts).step == "proximal"
    assert Compose(network(), {"plain": Finetune}).step == "gradient"


def test_no_step_of_this_name():
    with pytest.raises(InputError, match="step=implicit is unknown: it must be one of gradient, proximal"):
        EWC(network(), step="implicit")


def test_strengths_in_a_row_only_ever_hold_more():
    """The distance from the old weights falls as the strength grows."""
    distances = []
    for strength in (0.0, 1.0, 1e2, 1e4, 1e6):
        ewc = after_two_tasks(OnlineEWC, strength=strength)
        descend(ewc.model, optimizer := SGD(ewc.model.parameters(), lr=0.05))
        ewc.after_step(optimizer)
        distances.append(ewc.quadratic.value(ewc.model))
    assert all(b < a for a, b in itertools.pairwise(distances))


@pytest.mark.parametrize("rows", ["free", "frozen"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["strategy.step=proximal"], "with step=proximal and fisher/structure=kronecker, which solve for all weights"),
        (["strategy=compose", "strategy.parts.penalty.step=proximal"], "with step=proximal and fisher/structure="),
        (["strategy=ncl", "optimizer=sgd"], "with NCL and fisher/structure=kronecker"),
        (["strategy.step=proximal", "fisher/structure=diagonal"], None),
        (["strategy=l2", "strategy.step=proximal"], None),
        (["strategy=si", "strategy.step=proximal"], None),
        ([], None),
    ],
)
def test_weights_that_are_solved_for_together_may_not_be_held(options, message, rows):
    """The others' solution would count on these moving too, and be no stationary point when they do not."""
    register_resolvers()
    fixed = ["scenario=class", "benchmark=split", f"scenario.old_rows={rows}"]
    structure = [] if any("structure" in word for word in options) else ["fisher/structure=kronecker"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=[*fixed, *structure, *options])
    with nullcontext() if message is None else pytest.raises(InputError, match=f"old_rows={rows} .* {message}"):
        validate(cfg)
