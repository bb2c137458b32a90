"""Entry of action-start: rents GPU machines as single-use GitHub runners."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared"))

from gpu_ci.cli import run
from gpu_ci.start import start

if __name__ == "__main__":
    sys.exit(run(start, os.environ))
