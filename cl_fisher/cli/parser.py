"""argparse whose complaints are ours: one line, exit status 2."""

import argparse
from typing import NoReturn

from cl_fisher.error import InputError


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises instead of printing its usage and leaving."""

    def error(self, message: str) -> NoReturn:
        """Raise the complaint as `InputError`."""
        raise InputError(f"{message} (see {self.prog} --help)")
