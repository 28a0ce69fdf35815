"""`python -m cl_fisher` is `cl-fisher`."""

import sys

from cl_fisher.cli.main import main

sys.exit(main())
