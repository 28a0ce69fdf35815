"""How well the Fisher diagonal is estimated on real trained networks: error and cost, few examples, other conventions.

MNIST (in $CL_FISHER_DATA) and MLP 784-400-400; `--quick` takes small digits, which need no download, and few steps.
Every part leaves a CSV file in the folder, and its tables are printed as Markdown.
"""

import argparse
import sys
from pathlib import Path

import torch
from fisher_accuracy import conventions, error, importance, picture, size, split
from fisher_accuracy.table import read, texts, write

PARTS = {"error": error, "size": size, "importance": importance, "split": split, "conventions": conventions}


def main() -> None:
    """Measure, print and write; or only print."""
    parser = argparse.ArgumentParser(prog="scripts/bench accuracy", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, help="folder for a CSV file per part, and the picture of `error`")
    parser.add_argument("--quick", action="store_true", help="digits, few steps, two draws: only to see it run")
    parser.add_argument("--show", type=Path, help="measure nothing: print the tables of the CSV files in this folder")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        part = PARTS[name]
        rows = read(args.show / f"{name}.csv") if args.show else texts(part.measure(args.quick, say))
        if args.out:
            write(rows, args.out / f"{name}.csv")
            if name == "error":
                picture.draw(rows, args.out / "error_against_cost.png")
        print(f"\n## {name}\n\n{part.show(rows)}", flush=True)


def say(text: str) -> None:
    """Progress, out of the way of the tables."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
