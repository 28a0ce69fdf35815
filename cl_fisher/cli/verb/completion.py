"""`cl-fisher completion`: the script that gives a shell tab completion."""

import argparse

from cl_fisher.cli.parser import Parser

SUMMARY = "print the script for tab completion in bash, zsh or fish"


def parser() -> argparse.ArgumentParser:
    """The shell."""
    own = Parser(
        prog="cl-fisher completion",
        description="Print a script that a shell evaluates to complete verbs, groups, choices, keys and folders.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='bash, zsh: eval "$(cl-fisher completion bash)"        (zsh; put it into ~/.bashrc or ~/.zshrc)\n'
        "fish:      cl-fisher completion fish | source",
    )
    own.add_argument("shell", choices=("bash", "zsh", "fish"))
    return own


def main(args: argparse.Namespace) -> int:
    """Print the script."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["cl-fisher"], shell="fish" if args.shell == "fish" else "bash"))  # one script serves bash and zsh
    return 0
