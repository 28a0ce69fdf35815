"""Parts of `scripts/bench fisher`: what is measured (cases, methods, peers) and how."""
