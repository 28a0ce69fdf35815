"""Parts of `scripts/bench accuracy`: one file each, with `measure` (rows of a CSV file) and `show` (its tables)."""
