"""Random numbers that belong to examples: the same for an example whatever batch, order or process it comes in."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15, the increment of SplitMix64, as a signed number
_MIX = (-4658895280553007687, -7723592293110705685)  # its two multipliers, 0xBF58476D1CE4E5B9 and 0x94D049BB133111EB
_CHUNK = 2**18  # numbers that are made at a time: a few buffers of 2 MB


@dataclass(frozen=True)
class Draws:
    """Uniform numbers and signs keyed by (seed, example index, position): SplitMix64 (Steele et al. 2014)."""

    seed: int
    index: Tensor
    """int64 [N]: which example each row of the batch is."""

    def uniform(self, *shape: int) -> Tensor:
        """Float64 in [0, 1), [*shape, N]."""
        return self._numbers(shape, torch.float64, lambda bits: _shift(bits, 11).double().mul_(2.0**-53))

    def per_example(self, samples: int, *shape: int) -> Tensor:
        """The same, [samples, N, *shape]: `samples` numbers for each entry of something that an example has.

        An entry's numbers do not depend on the first dimension of `shape`, the length to which sequences are padded.
        """
        return self.uniform(*shape, samples).movedim((-2, -1), (0, 1))

    def signs(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        """+1 or -1 with equal probability, [*shape, N]."""
        return self._numbers(shape, dtype, lambda bits: _shift(bits, 63).to(dtype).mul_(-2).add_(1))

    def _numbers(self, shape: tuple[int, ...], dtype: torch.dtype, number: Callable[[Tensor], Tensor]) -> Tensor:
        """One number from each 64 random bits, [*shape, N]; some positions at a time, since bits are larger."""
        # one round each for the seed, the example and the position, so that no two of them can stand in for each other
        state = _mix(_mix(torch.tensor(self.seed & (2**63 - 1)) + 1) + self.index.cpu())
        position = torch.arange(torch.Size(shape).numel())[:, None]
        made = torch.empty(len(position), len(state), dtype=dtype)
        at_once = max(1, _CHUNK // max(1, len(state)))
        for some, into in zip(position.split(at_once), made.split(at_once), strict=True):
            into.copy_(number(_mix(state + some)))
        return made.reshape(*shape, len(state))


def _mix(x: Tensor) -> Tensor:
    x = x + _GOLDEN
    x = (x ^ _shift(x, 30)) * _MIX[0]
    x = (x ^ _shift(x, 27)) * _MIX[1]
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift right; torch's is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
