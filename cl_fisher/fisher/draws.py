"""Random numbers that belong to examples: the same for an example whatever batch, order or process it comes in."""

from dataclasses import dataclass

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15, the increment of SplitMix64, as a signed number
_MIX = (-4658895280553007687, -7723592293110705685)  # its two multipliers, 0xBF58476D1CE4E5B9 and 0x94D049BB133111EB


@dataclass(frozen=True)
class Draws:
    """Uniform numbers and signs keyed by (seed, example index, position): SplitMix64 (Steele et al. 2014)."""

    seed: int
    index: Tensor
    """int64 [N]: which example each row of the batch is."""

    def uniform(self, *shape: int) -> Tensor:
        """Float64 in [0, 1), [*shape, N]."""
        return (_shift(self._bits(shape), 11)).double() * 2.0**-53

    def signs(self, *shape: int) -> Tensor:
        """+1 or -1 with equal probability, float64 [*shape, N]."""
        return 1.0 - 2.0 * _shift(self._bits(shape), 63).double()

    def _bits(self, shape: tuple[int, ...]) -> Tensor:
        """64 random bits each, int64 [*shape, N]."""
        count = torch.Size(shape).numel()
        index = self.index.cpu()
        position = torch.arange(count).reshape(*shape, 1)
        # one round each for the seed, the example and the position, so that no two of them can stand in for each other
        state = _mix(torch.tensor(self.seed & (2**63 - 1)) + 1)
        return _mix(_mix(state + index) + position)


def _mix(x: Tensor) -> Tensor:
    x = x + _GOLDEN
    x = (x ^ _shift(x, 30)) * _MIX[0]
    x = (x ^ _shift(x, 27)) * _MIX[1]
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift right; torch's is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
