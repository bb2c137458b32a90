"""Entry of action-watchdog: ends jobs, machines and registrations that nothing else ends."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "shared"))

from gpu_ci.cli import run
from gpu_ci.watchdog import watchdog

if __name__ == "__main__":
    sys.exit(run(watchdog, os.environ))
