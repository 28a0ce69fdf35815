"""The two ways in which a run ends badly; each maps to one exit status of the command line."""


class InputError(ValueError):
    """The user's input is wrong. The message is one line: what is wrong, where, and what would be right (exit 2)."""


class RunError(RuntimeError):
    """A run cannot go on, for example because its loss is no longer finite (exit 1)."""
