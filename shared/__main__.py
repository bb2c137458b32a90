"""Entry of the command line from a checkout: `python -I shared start …`."""

import sys
from pathlib import Path

# The sandbox is a package of its own; `demo` and `sandbox` find it in the checkout.
sys.path.append(str(Path(__file__).resolve().parents[1] / "sandbox"))

from gpu_ci.cli import main

sys.exit(main())
