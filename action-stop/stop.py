"""Entry of action-stop: gives machines and their registrations back."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared"))

from gpu_ci.cli import run
from gpu_ci.stop import stop

if __name__ == "__main__":
    sys.exit(run(stop, os.environ))
