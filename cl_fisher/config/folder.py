"""Where the YAML files lie."""

from pathlib import Path

import cl_fisher


def conf_dir() -> Path:
    """The folder `conf`: inside the package when it was installed from a wheel, beside it in a checkout."""
    package = Path(cl_fisher.__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"
