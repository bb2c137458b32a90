"""Entry of action-gate: says whether this run may spend money on a GPU."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared"))

from gpu_ci.cli import run
from gpu_ci.gate import gate

if __name__ == "__main__":
    sys.exit(run(gate, os.environ))
