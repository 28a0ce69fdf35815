"""The one place where objects are made from the configuration."""

import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cl_fisher.config.suggest import did_you_mean
from cl_fisher.error import InputError, RunError

OWN = "cl_fisher."


def build(node: Any, **kwargs: Any) -> Any:
    """Instantiate a node's `_target_` with its options (`hydra.utils.instantiate`), lists as lists, and `kwargs`.

    A `_partial_` node is called only if there are `kwargs`; so are those within it, by whoever gets them.

    `kwargs` do not pass through Hydra, which would turn a dataclass such as a data set into a configuration.

    Raises:
        InputError: an option that the target does not have, a target that does not exist, a value that a target
            outside this package refuses; and whatever `InputError` the target itself raises.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    for part in _targets(OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node):
        _check_options(part)
    target = str(node["_target_"])
    try:
        made = functools.partial(instantiate(node, _partial_=True, _convert_="all"), **kwargs)
        return made if node.get("_partial_") and not kwargs else made()
    except (InputError, RunError):
        raise
    except (InstantiationException, ValueError, TypeError) as error:
        cause = _root(error)
        if isinstance(cause, InputError | RunError):
            raise cause from None
        if not target.startswith(OWN) and isinstance(cause, ValueError | TypeError):
            raise InputError(f"{target}: {' '.join(str(cause).split())}") from error
        raise


def _targets(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _targets(part)


def _check_options(node: Mapping[str, Any]) -> None:
    from hydra._internal.utils import _locate  # hydra.utils.get_object would print lines of its own

    target = str(node["_target_"])
    try:
        wanted = inspect.signature(_locate(target)).parameters
    except ImportError as error:
        raise InputError(f"there is no '{target}': {' '.join(str(error.__cause__ or error).split())}") from error
    except (ValueError, TypeError):  # written in C: it tells no signature
        return
    if any(p.kind is p.VAR_KEYWORD for p in wanted.values()):
        return
    for key in node:
        if not key.startswith("_") and key not in wanted:
            raise InputError(f"{target} has no option '{key}'{did_you_mean(key, wanted)}")


def _root(error: BaseException) -> BaseException:
    from hydra.errors import InstantiationException

    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error
