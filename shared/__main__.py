"""Entry of the command line from a checkout: `python -I shared start …`."""

import sys

from gpu_ci.cli import main

sys.exit(main())
