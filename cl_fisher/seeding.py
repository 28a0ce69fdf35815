"""One random stream per purpose, so that drawing more for one never changes what another gets."""

import hashlib

import torch


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose of a run, such as `generator(seed, "permutation", task)`.

    Its state depends on the arguments only (through SHA-256), not on the process, the platform or earlier draws.
    """
    digest = hashlib.sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
