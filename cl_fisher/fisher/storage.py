"""Reading a Fisher from disk; writing is `FisherMatrix.save`."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from cl_fisher.error import InputError
from cl_fisher.fisher.structure.dense import Dense
from cl_fisher.fisher.structure.diagonal import Diagonal
from cl_fisher.fisher.structure.direct_sum import DirectSum
from cl_fisher.fisher.structure.ekfac_matrix import Ekfac
from cl_fisher.fisher.structure.kronecker_matrix import Kronecker
from cl_fisher.fisher.structure.low_rank import LowRank
from cl_fisher.fisher.structure.matrix import FisherMatrix

_KINDS: tuple[type[FisherMatrix], ...] = (Dense, Diagonal, DirectSum, Ekfac, Kronecker, LowRank)
MATRICES: Mapping[str, type[FisherMatrix]] = {matrix.kind: matrix for matrix in _KINDS}


def load_fisher(path: str | Path) -> FisherMatrix:
    """Read a Fisher that `FisherMatrix.save` wrote, onto the CPU.

    Raises:
        InputError: no such file, or not one of ours.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = (file.metadata() or {}).get("cl_fisher")
            if header is None:
                raise InputError(f"{path}: a safetensors file, but not one that holds a Fisher of cl_fisher")
            about = json.loads(header)
            tensors = {name: file.get_tensor(name) for name in about["names"]}
            error = {
                name.removeprefix("standard_error/"): file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118 - not a mapping
                if name.startswith("standard_error/") and name not in tensors
            }
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    matrix = restored(about["kind"], tensors, about["info"], about["form"])
    return replace(matrix, standard_error=error or None)


def restored(
    kind: str, tensors: Mapping[str, Tensor], info: Mapping[str, Any], form: Mapping[str, Any]
) -> FisherMatrix:
    """The matrix that gave these tensors and this form."""
    if kind not in MATRICES:
        raise InputError(f"a Fisher kept as {kind}, of which this version of cl_fisher knows nothing")
    if kind != DirectSum.kind:
        return MATRICES[kind].from_tensors(tensors, info, form)
    blocks = [
        restored(
            block["kind"],
            {name.partition("/")[2]: t for name, t in tensors.items() if name.partition("/")[0] == str(i)},
            block["info"],
            block["form"],
        )
        for i, block in enumerate(form["blocks"])
    ]
    return DirectSum(tuple(blocks), tuple(form["names"]), info=info)
