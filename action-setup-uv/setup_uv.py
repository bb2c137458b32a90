"""Entry of action-setup-uv: sets uv up on the machine that this job runs on."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared"))

from gpu_ci.cli import run
from gpu_ci.setup_uv import setup_uv

if __name__ == "__main__":
    sys.exit(run(setup_uv, os.environ))
