"""Which output cotangents: how the expectation over labels is taken. One file each."""
