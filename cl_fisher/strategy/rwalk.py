"""Riemannian walk: a running Fisher, and what each weight did for the loss per distance in its metric."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cl_fisher.bounds import Count, NonNegative, Positive, UnitInterval, checked
from cl_fisher.error import RunError
from cl_fisher.fisher.structure.diagonal import Diagonal
from cl_fisher.strategy.path import Path, Tensors
from cl_fisher.strategy.quadratic import grown
from cl_fisher.strategy.strategy import Step, Strategy


class RWalk(Strategy):
    """Penalty (strength/2) sum_i (F~_i + s~_i) (theta_i - theta_last_i)^2 (Chaudhry et al. 2018, sec. 4).

    F is the paper's running Fisher (EWC++), at every step F <- alpha g^2 + (1 - alpha) F, g the gradient of the task's
    loss on the step's batch, penalty not included; it begins at the first g^2 and is never set back. As g is of a whole
    batch, F is no mean over examples (see `BatchedEmpirical`).

    s is the score: every `interval` steps, and at the end of a task,

        s_i += max(0, omega_i) / (F_i D_i^2 / 2 + damping),

    where D_i is how far the weight went since the last time and omega_i = - sum over these steps of g_i * (step of
    weight i); F D^2 / 2 is the divergence of the network's predictions that this change brings about. At a task's end
    the score of the task is averaged with the one before: s <- (s_before + s_of_task) / 2, in the first task it is its
    own. For the penalty both are brought to [0, 1], (x - min) / (max - min) over all weights of the network. There is
    one penalty, the newest. The paper's is lambda sum_i (...), so strength = 2 lambda.

    In a plain loop, and among the parts of a composition, as `SI`.

    Args:
        model: the network; frozen parameters are left alone.
        strength: twice the paper's lambda. 0 leaves the gradients untouched.
        alpha: from 0 to 1, the weight of the newest gradient in the running Fisher.
        interval: the paper's Delta t, in optimizer steps (calls of `add_gradient`).
        damping: the paper's epsilon, in units of the divergence (nats, if g were of single examples).
        step: as in `EWC`.
    """

    reads_gradient: ClassVar[bool] = True

    @checked
    def __init__(
        self,
        model: nn.Module,
        strength: NonNegative = 200.0,
        alpha: UnitInterval = 0.05,
        interval: Count = 50,
        damping: Positive = 1e-3,
        step: Step = "gradient",
    ) -> None:
        super().__init__(model, strength, step)
        self.alpha, self.interval, self.damping = alpha, interval, damping
        self._path = Path()
        self._steps = 0
        self._fisher: Tensors = {}
        self._score: Tensors = {}
        self._score_before: Tensors = {}

    def add_gradient(self, parameters: Iterable[nn.Parameter] | None = None) -> None:
        """Take note of the gradient of the task's loss, and then add that of the penalty."""
        wanted = None if parameters is None else list(parameters)
        if self._steps == self.interval:
            self._close()
        for name, g in self._path.note(self.model, wanted).items():
            self._fisher[name] = grown(name, self._fisher.get(name), g.square()).lerp(g.square(), self.alpha)
        self._steps += 1
        super().add_gradient(wanted)

    @torch.no_grad()
    def _close(self) -> None:
        """Score the stretch of way since the last time."""
        gain, change = self._path.end(self.model)
        for name, g in gain.items():
            divergence = 0.5 * self._fisher[name].to(g) * change[name].square()
            score = g.clamp(min=0) / (divergence + self.damping)
            self._score[name] = score + self._score[name].to(g) if name in self._score else score
        self._steps = 0

    def consolidate(self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None) -> None:  # noqa: ARG002
        """Average the scores, and put the penalty to the weights now with importances of now; reads no batch."""
        self._close()
        if not self._score:
            raise RunError("RWalk has seen no training step: call add_gradient between backward and the step")
        before = self._score_before
        averaged = {n: 0.5 * (s + grown(n, before.get(n), s.clone())) for n, s in self._score.items()}
        self._score_before = before | averaged  # a layer that is frozen by now keeps its score
        self._score = {}
        fisher, score = (_normalised(x) for x in (self._fisher, self._score_before))
        importance = Diagonal({name: s + fisher[name].to(s) for name, s in score.items()})
        self.quadratic.move(importance, self.model, gamma=0.0)

    def memory(self) -> dict[str, Any]:
        """The running Fisher, the scores, and the way since the last score."""
        return {
            "path": self._path.state_dict(),
            "steps": self._steps,
            "fisher": dict(self._fisher),
            "score": dict(self._score),
            "score_before": dict(self._score_before),
        }

    def recall(self, memory: dict[str, Any]) -> None:
        """Undo `memory`."""
        self._path.load_state_dict(memory["path"])
        self._steps = memory["steps"]
        self._fisher, self._score = dict(memory["fisher"]), dict(memory["score"])
        self._score_before = dict(memory["score_before"])


def _normalised(tensors: Mapping[str, Tensor]) -> Tensors:
    """All entries together brought to [0, 1]; zero where they are all alike."""
    low = min(float(t.min()) for t in tensors.values())
    width = max(float(t.max()) for t in tensors.values()) - low
    return {name: (t - low) / width if width > 0 else torch.zeros_like(t) for name, t in tensors.items()}
