"""Synaptic intelligence: importance is what a weight did for the loss while it was trained."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from torch import nn

from cl_fisher.bounds import NonNegative, Positive, checked
from cl_fisher.error import RunError
from cl_fisher.fisher.structure.diagonal import Diagonal
from cl_fisher.strategy.path import Path
from cl_fisher.strategy.strategy import Step, Strategy


class SI(Strategy):
    """Penalty (strength/2) sum_i Omega_i (theta_i - theta_last_i)^2 (Zenke, Poole, Ganguli 2017, eq. 3 to 5).

    After each task Omega_i += max(0, omega_i) / (D_i^2 + damping), where D_i is how far the weight went in the task and
    omega_i = - sum over steps of g_i * (step of weight i) how much of the fall of the loss it brought about; g is the
    gradient of the task's loss on the step's batch, penalty and clipping not included, in training mode. The maximum is
    not in the paper: it keeps the penalty from pushing weights away. The paper's penalty is c sum_i Omega_i (...)^2, so
    strength = 2c: van de Ven et al. 2022 have c 10 (task), 5e4 (domain) and 5e3 (class) on Split MNIST.

    In a plain loop: `loss.backward(); si.add_gradient(); optimizer.step(); si.after_step(optimizer)`, and
    `si.consolidate(batches)` after a task, whose batches are not read. In a composition it sees the gradient before the
    other parts change it, and there can be no second strategy of this kind.

    Args:
        model: the network; frozen parameters are left alone.
        strength: twice the paper's c. 0 leaves the gradients untouched.
        damping: the paper's xi, in squared units of the weights: bounds the importance of weights that hardly moved.
        step: as in `EWC`.
    """

    reads_gradient: ClassVar[bool] = True

    @checked
    def __init__(
        self, model: nn.Module, strength: NonNegative = 20.0, damping: Positive = 0.1, step: Step = "gradient"
    ) -> None:
        super().__init__(model, strength, step)
        self.damping = damping
        self._path = Path()

    def add_gradient(self, parameters: Iterable[nn.Parameter] | None = None) -> None:
        """Take note of the gradient of the task's loss, and then add that of the penalty."""
        wanted = None if parameters is None else list(parameters)
        self._path.note(self.model, wanted)
        super().add_gradient(wanted)

    def consolidate(self, batches: Iterable[Sequence[Any]], classes: Sequence[int] | None = None) -> None:  # noqa: ARG002
        """Add the importances of the steps since the last time, and move the penalty to the weights now."""
        gain, change = self._path.end(self.model)
        if not gain:
            raise RunError("SI has seen no training step: call add_gradient between backward and the optimizer's step")
        importance = {name: g.clamp(min=0) / (change[name].square() + self.damping) for name, g in gain.items()}
        self.quadratic.move(Diagonal(importance), self.model, gamma=1.0)

    def memory(self) -> dict[str, Any]:
        """The way since the last task; nothing right after one."""
        return self._path.state_dict()

    def recall(self, memory: dict[str, Any]) -> None:
        """Undo `memory`."""
        self._path.load_state_dict(memory)
