"""Having torch compute a network as it is written, where it would take a shortcut that cannot be followed."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def plain() -> Iterator[None]:
    """Compiled models run as written, and transformer layers without the fast path that evaluation mode has.

    A compiled graph does not show its layers, and hooks would have it compiled again at every pass. The fast path
    works on nested tensors where there is padding, which vmap does not know.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as undo:
        if hasattr(torch.compiler, "set_stance"):  # torch 2.6
            undo.enter_context(torch.compiler.set_stance("force_eager"))
        undo.callback(torch.backends.mha.set_fastpath_enabled, fast)
        torch.backends.mha.set_fastpath_enabled(False)
        yield


@contextmanager
def under_vmap() -> Iterator[None]:
    """Attention as matrix products, since vmap runs the fused kernels example by example, and no warnings about speed.

    Not for large passes without vmap: products keep all pairs of positions.
    """
    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield
