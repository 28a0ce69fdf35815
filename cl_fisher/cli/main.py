"""`cl-fisher VERB ...`: finds the verb and turns what happened into an exit status.

0 done; 1 a run failed; 2 the input is wrong (one line on stderr); 130 interrupted. A programming error keeps its
traceback and exits with 1.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from cl_fisher import __version__
from cl_fisher.cli.parser import Parser
from cl_fisher.cli.warning import brief_warnings
from cl_fisher.config.suggest import did_you_mean
from cl_fisher.error import InputError, RunError

VERBS = ("run", "report", "list", "completion")
"""Each is a module of `cl_fisher.cli.verb` with SUMMARY, parser() and main(args)."""

EPILOG = """examples:
  cl-fisher run                                              permuted digits, EWC, five tasks, on a laptop in a minute
  cl-fisher run -m strategy=finetune,ewc,joint seed=0,1,2    nine runs and their comparison
  cl-fisher list strategy                                    what can be chosen
  cl-fisher report outputs/multirun/DATE/TIME                tables, plots and one HTML page, again

`cl-fisher VERB --help` says more. Tab completion: eval "$(cl-fisher completion bash)"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        if "_ARGCOMPLETE" in os.environ:
            from cl_fisher.cli.completer import Finder

            Finder()(parser(), always_complete_options="long")
        with brief_warnings():
            status = _dispatch(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
        return status
    except InputError as error:
        print(f"cl-fisher: error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"cl-fisher: the run failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cl-fisher: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # what a shell reports for SIGPIPE


def parser() -> argparse.ArgumentParser:
    """The whole command line as one parser, for `--help` and for completion."""
    whole = Parser(
        prog="cl-fisher",
        description="Continual learning with elastic weight consolidation: run, compare, report.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"cl-fisher {__version__}")
    verbs = whole.add_subparsers(metavar="VERB", title="verbs")
    for name in VERBS:
        module = _verb(name)
        verbs.add_parser(name, parents=[module.parser()], add_help=False, help=module.SUMMARY)
    return whole


def _dispatch(argv: list[str]) -> int:
    if not argv:
        parser().print_help()
        return 0
    if argv[0].startswith("-"):
        parser().parse_args(argv)
    if argv[0] not in VERBS:
        hint = f"; write: cl-fisher run {argv[0]}" if "=" in argv[0] else did_you_mean(argv[0], VERBS)
        raise InputError(f"there is no verb '{argv[0]}'{hint or '; there are ' + ', '.join(VERBS)}")
    module = _verb(argv[0])
    status: int = module.main(module.parser().parse_intermixed_args(argv[1:]))
    return status


def _verb(name: str) -> ModuleType:
    return import_module(f"cl_fisher.cli.verb.{name}")
