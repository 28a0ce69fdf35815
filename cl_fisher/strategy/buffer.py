"""A bounded memory of examples, for strategies that replay them."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from cl_fisher.bounds import check_choice
from cl_fisher.dataset.examples import Examples
from cl_fisher.error import InputError
from cl_fisher.seeding import generator
from cl_fisher.strategy.batch import Batch
from cl_fisher.strategy.keep import balanced, reservoir, shares

Memory = Literal["class_balanced", "reservoir"]
Replay = Literal["earlier", "all"]
Columns = dict[str, Tensor]
"""What is known of some examples, by name, each [n, ...]: inputs, targets, task, entered (in which phase), and more."""


class Buffer:
    """Keeps examples by one of two rules, and draws from them.

    "reservoir": every distinct example of the stream is equally likely to be there (`see`, at each step).
    "class_balanced": equal shares for all classes of all tasks, drawn uniformly from each (`take`, at task ends). The
    same output in another task is another class here, as in domain-incremental learning.

    It lies on the CPU, whatever the network's device: that memory is the network's, and a batch drawn from here takes
    the way that any batch takes from the loader. Draws come from streams of its own, whose states are in `state`.

    Args:
        memory: the rule.
        capacity: how many examples it holds, of all tasks together.
        per_class: so many of each class instead; "class_balanced" only.
        replay: draw what entered in earlier tasks only, or from all that is there.
        seed: of the draws.

    Raises:
        InputError: the options do not go together.
    """

    def __init__(
        self,
        memory: Memory,
        capacity: int,
        per_class: int | None = None,
        replay: Replay = "earlier",
        seed: int = 0,
    ) -> None:
        check_choice("memory", memory, Memory)
        check_choice("replay", replay, Replay)
        if memory == "reservoir" and per_class is not None:
            raise InputError(f"per_class={per_class} needs memory=class_balanced; a reservoir knows no classes")
        if memory == "class_balanced" and replay == "all":
            raise InputError("replay=all needs memory=reservoir: class_balanced is only filled when a task has ended")
        self.memory, self.capacity, self.per_class, self.replay = memory, capacity, per_class, replay
        self.columns: Columns = {}
        self.phase = 0
        self._n_seen = 0
        self._met: set[tuple[int, int]] = set()
        self._warned = False
        self._keep, self._draw = generator(seed, "memory"), generator(seed, "replay")

    def __len__(self) -> int:
        return len(self.columns["targets"]) if self.columns else 0

    def begin(self, phase: int) -> None:
        """A phase begins: examples that come from now on are new ones."""
        self.phase = phase
        self._met = set()

    def see(self, batch: Batch, again: bool = False, **more: Tensor) -> None:
        """Take note of a training batch; `more` is kept beside it. "reservoir" only.

        Each example counts once, or with `again` each time that it comes: the draw is from all times then, for what is
        kept beside it changes, and an example may be in memory more than once.
        """
        if self.memory != "reservoir":
            return
        fresh = (batch.position >= 0).nonzero().flatten().cpu() if again else self._unmet(batch.task, batch.position)
        if len(fresh) == 0:
            return
        slots, which = reservoir(self._n_seen, len(fresh), self.capacity, self._keep)
        self._n_seen += len(fresh)
        rows = fresh[which]
        self._write(slots, self._rows(batch.inputs, batch.targets, batch.task, rows) | _picked(more, rows))

    def take(self, batches: Iterable[Sequence[Any]]) -> None:
        """Take from the data of the phase that ends, (inputs, targets, position, task). "class_balanced" only.

        Without boundaries they come again and again within a phase; by its position each counts once. `position` and
        `task` may be missing: all are new then, and of the phase's task.
        """
        if self.memory != "class_balanced":
            return
        for inputs, targets, *about in batches:
            task = self.task_of(targets, *about)
            fresh = self._unmet(task, about[0]) if about else torch.arange(len(targets))
            self.add(inputs[fresh.to(inputs.device)], targets[fresh.to(targets.device)], task[fresh.to(task.device)])

    def task_of(self, targets: Tensor, _position: Tensor | None = None, task: Tensor | None = None) -> Tensor:
        """Which task each example is of: as told, since blurred boundaries lend some from others; else the phase's."""
        return torch.full_like(targets, self.phase) if task is None else task

    def add(self, inputs: Tensor, targets: Tensor, task: Tensor, key: Tensor | None = None) -> None:
        """Offer examples to the classes' shares: those with the smallest keys stay, random ones (float64) if None."""
        rows = self._rows(inputs, targets, task, torch.arange(len(targets)))
        rows["key"] = torch.rand(len(targets), generator=self._keep, dtype=torch.float64) if key is None else key
        if self.columns:
            rows = {name: torch.cat([self.columns[name], new.to(self.columns[name])]) for name, new in rows.items()}
        groups = _groups(rows)
        self.columns = _picked(rows, balanced(groups, rows["key"], self.capacity, self.per_class))
        self._warn_of_classes_left_out(len(groups.unique(dim=0)))

    def _warn_of_classes_left_out(self, classes: int) -> None:
        if self.per_class is None and self.capacity < classes and not self._warned:
            self._warned = True
            warnings.warn(
                f"capacity={self.capacity} is less than the {classes} classes of all tasks so far: some have no "
                "example in memory",
                stacklevel=3,
            )

    def room(self, targets: Tensor, task: Tensor) -> int:
        """The most that will be kept of any class of some examples that are about to be added."""
        if self.per_class is not None:
            return self.per_class
        groups = _groups({"targets": targets, "task": task})
        if self.columns:
            groups = torch.cat([_groups(self.columns), groups])
        _, which, sizes = groups.unique(dim=0, return_inverse=True, return_counts=True)
        return int(shares(sizes, self.capacity)[which[len(self) :]].max())

    def draw(self, n: int, like: Tensor) -> Columns | None:
        """Up to `n` different examples, drawn uniformly; type and device are those of `like`. None: there is none."""
        which = torch.arange(len(self))
        if self.replay == "earlier" and len(self):
            which = (self.columns["entered"] < self.phase).nonzero().flatten()
        if len(which) == 0:
            return None
        rows = _picked(self.columns, which[torch.randperm(len(which), generator=self._draw)[:n]])
        rows = {name: column.to(like.device) for name, column in rows.items() if name != "key"}
        return rows | {"inputs": rows["inputs"].to(like.dtype)}

    def examples(self) -> dict[int, Examples]:
        """All that is kept, by task number, as training data."""
        found = {}
        for number in self.columns["task"].unique().tolist() if self.columns else ():
            own = _picked(self.columns, (self.columns["task"] == number).nonzero().flatten())
            found[number] = Examples(own["inputs"].float(), torch.arange(len(own["targets"])), own["targets"])
        return found

    def state(self) -> dict[str, Any]:
        """Tensors and plain containers, also within a phase."""
        columns = {name: column.clone() for name, column in self.columns.items()}
        streams = [self._keep.get_state(), self._draw.get_state()]
        met = [list(example) for example in self._met]
        return {"columns": columns, "n_seen": self._n_seen, "streams": streams, "phase": self.phase, "met": met}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Undo `state`."""
        self.columns = {name: column.clone() for name, column in state["columns"].items()}
        self._n_seen, self.phase = state["n_seen"], state["phase"]
        self._met = {(task, position) for task, position in state["met"]}
        for stream, kept in zip((self._keep, self._draw), state["streams"], strict=True):
            stream.set_state(kept.cpu())

    def _unmet(self, task: Tensor, position: Tensor) -> Tensor:
        """Which examples come for the first time in this phase, int64; they are noted down."""
        fresh = []
        for i, example in enumerate(zip(task.tolist(), position.tolist(), strict=True)):
            if example[1] >= 0 and example not in self._met:
                self._met.add(example)
                fresh.append(i)
        return torch.tensor(fresh, dtype=torch.int64)

    def _rows(self, inputs: Tensor, targets: Tensor, task: Tensor, rows: Tensor) -> Columns:
        columns = _picked({"inputs": inputs, "targets": targets, "task": task}, rows)
        return columns | {"entered": torch.full_like(columns["task"], self.phase)}

    def _write(self, slots: Tensor, rows: Columns) -> None:
        """Put rows into slots; those behind the end are the next ones in order."""
        if not self.columns:
            self.columns = rows
            return
        new = slots >= len(self)
        for name, column in rows.items():
            kept, column = self.columns[name], column.to(self.columns[name])
            kept[slots[~new]] = column[~new]
            self.columns[name] = torch.cat([kept, column[new]]) if new.any() else kept


def replayed(rows: Columns) -> Batch:
    """Drawn examples as a batch."""
    return Batch(rows["inputs"], rows["targets"], torch.full_like(rows["task"], -1), rows["task"])


def _groups(columns: Columns) -> Tensor:
    """What is a class of its own: an output in a task, [n, 2]."""
    return torch.stack([columns["task"], columns["targets"]], 1)


def _picked(columns: Mapping[str, Tensor], which: Tensor) -> Columns:
    """Copies of some rows, on the CPU."""
    return {name: c.detach().index_select(0, which.to(c.device)).cpu() for name, c in columns.items()}
