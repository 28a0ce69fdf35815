"""Reading a Fisher from disk; writing is `FisherMatrix.save`."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from cl_fisher.error import InputError
from cl_fisher.fisher.structure.diagonal import Diagonal
from cl_fisher.fisher.structure.matrix import FisherMatrix

MATRICES: Mapping[str, type[FisherMatrix]] = {matrix.kind: matrix for matrix in (Diagonal,)}


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
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    return MATRICES[about["structure"]].from_tensors(tensors, about["info"])
