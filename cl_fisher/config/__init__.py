"""The configuration: where it lies, what is allowed in it, and how objects are made from it.

Nothing here imports torch or Lightning, so that a wrong input is answered at once.
"""

from cl_fisher.config.build import build
from cl_fisher.config.folder import conf_dir
from cl_fisher.config.resolver import register_resolvers
from cl_fisher.config.validate import validate

__all__ = ["build", "conf_dir", "register_resolvers", "validate"]
