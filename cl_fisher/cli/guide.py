"""The text of `cl-fisher run --help`; groups, keys and their explanations come from the YAML files."""

import re
import shutil
import textwrap

from cl_fisher.cli.catalog import Catalog
from cl_fisher.config import conf_dir

INTRO = """usage: cl-fisher run [-m] [-q | -v] [key=value ...]

Trains one network on a sequence of tasks, one after the other, and measures what it still knows of each.
Everything has a default: `cl-fisher run` alone is a complete run.

examples:
  cl-fisher run                                          permuted digits, domain-incremental, 5 tasks, EWC
  cl-fisher run strategy=finetune epochs=5               another choice of a group; another value of a key
  cl-fisher run strategy.strength=1000 model.hidden=[100,100]
  cl-fisher run +trainer.deterministic=true              with +: an option that the YAML file does not show
  cl-fisher run -m strategy=finetune,ewc,joint seed=0,1,2    every combination, then a comparison
  cl-fisher run strategy=ewc --cfg job                   show the whole configuration, run nothing
  cl-fisher run debug=quick                              does it run at all?
"""

OUTRO = """flags:
  -m, --multirun      run every combination of the comma-separated values; an option of strategy can be set for
                      several strategies only if all have it, as all have strategy.strength
  -q, --quiet         print nothing but errors (verbosity=0)
  -v, --verbose       print more (verbosity=2)
  --cfg job           print the configuration instead of running; with --resolve, every ${...} filled in
  --config-dir DIR    a folder of your own with more choices, such as DIR/strategy/mine.yaml
  -h, --help          this text; --hydra-help: all flags of Hydra, which work as well

results:
  outputs/run/DATE/TIME/ (with -m outputs/multirun/DATE/TIME/, a folder for each cell), or output_dir=...
  Open report.html in it; config.yaml, metrics.json and the CSV files hold every number. Nothing is overwritten.

exit status: 0 done, 1 a run failed, 2 wrong input, 130 interrupted
"""


LENGTH = re.compile(r"\$\{cl_fisher\.length:(\d+)\}")
"""What stands for a number unless the benchmark has one data set per task."""


def run_help() -> str:
    """The text, as wide as the terminal."""
    width = min(shutil.get_terminal_size().columns, 120)
    catalog = Catalog((conf_dir(),))
    groups = [(group, _choices(catalog, group)) for group in catalog.groups]
    keys = [(f"{key.name}={_shown(key.default)}", key.comment) for key in catalog.keys]
    return "\n".join(
        [
            INTRO,
            "groups (* = default; `cl-fisher list GROUP` explains the choices and their options):",
            *_table(groups, width),
            "",
            "keys and their defaults:",
            *_table(keys, width),
            "",
            OUTRO,
        ]
    ).rstrip()


def _shown(default: str) -> str:
    return LENGTH.sub(r"\1", default)


def _choices(catalog: Catalog, group: str) -> str:
    default = catalog.defaults.get(group)
    return ", ".join(f"{choice}*" if choice == default else choice for choice in catalog.groups[group])


def _table(rows: list[tuple[str, str]], width: int) -> list[str]:
    left = min(max(len(name) for name, _ in rows), 30) + 4
    lines = []
    for name, text in rows:
        wrapped = textwrap.wrap(text, max(width - left, 20)) or [""]
        first = f"  {name}".ljust(left)
        lines += [first + wrapped[0]] if len(first) == left else [first, " " * left + wrapped[0]]
        lines += [" " * left + more for more in wrapped[1:]]
    return [line.rstrip() for line in lines]
