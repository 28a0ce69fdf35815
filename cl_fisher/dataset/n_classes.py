"""How many classes a data set has, told by a table in its source file. Free of torch, for the checks before a run."""

from collections.abc import Mapping
from typing import Any


def n_classes(table: object, options: Mapping[str, Any]) -> int | None:
    """The number in a table {option: {value: number or table}} for these options; a plain number stands for itself.

    None where the table does not tell.
    """
    while isinstance(table, dict):
        option, by_value = next(iter(table.items()))
        table = by_value.get(options.get(option))
    return table if isinstance(table, int) else None
