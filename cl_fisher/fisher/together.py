"""What does not go together, told without torch, so that a command line can refuse it at once."""

from cl_fisher.error import InputError

SAMPLINGS = ("uniform", "importance")


def check_together(
    estimator: str, squares_groups: bool, structure: str, takes_groups: bool, sampling: str, samples: int | None
) -> None:
    """Raise `InputError` if this estimator, structure and sampling cannot be combined.

    Args:
        estimator: its name, for the message.
        squares_groups: whether it squares gradients of groups of examples instead of examples.
        structure: its name, for the message.
        takes_groups: whether it can keep such squares.
        sampling: uniform or importance.
        samples: how many examples; None: all.
    """
    if sampling not in SAMPLINGS:
        raise InputError(f"fisher.sampling={sampling} is unknown: choose from {', '.join(SAMPLINGS)}")
    if sampling == "importance" and samples is None:
        raise InputError("fisher.sampling=importance draws fisher.samples examples: say how many, for instance 500")
    if not squares_groups:
        return
    if sampling == "importance":
        raise InputError(f"fisher/estimator={estimator} squares whole batches, so fisher.sampling must be uniform")
    if not takes_groups:
        raise InputError(
            f"fisher/estimator={estimator} squares gradients of whole batches, which is no matrix beyond a diagonal: "
            f"choose fisher/structure=diagonal, or fisher/estimator=empirical with fisher/structure={structure}"
        )
