"""What the ledger measures of the process."""

import os
import sys

import numpy as np
import pytest

from cl_fisher.training.ledger import forget_peak_memory, peak_memory_bytes

SIZE = 2**27


@pytest.mark.skipif(
    sys.platform != "linux" or not os.access("/proc/self/clear_refs", os.W_OK), reason="Linux forgets a peak"
)
def test_the_peak_of_an_earlier_run_is_forgotten():
    forget_peak_memory()
    before = peak_memory_bytes()
    np.ones(SIZE, np.int8)
    high = peak_memory_bytes()
    forget_peak_memory()
    assert high > before + 0.9 * SIZE
    assert peak_memory_bytes() < high - 0.9 * SIZE
