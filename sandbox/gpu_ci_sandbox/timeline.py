"""What a demo shows while it runs, and how it fails."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass, field

from gpu_ci.errors import GpuCiError


class DemoFailed(GpuCiError):
    """A step of the demo did not do what it should."""


@dataclass
class Timeline:
    """Prints what happens when it happens, and remembers it."""

    began: float = field(default_factory=time.monotonic)
    entries: list[tuple[float, str]] = field(default_factory=list)

    def note(self, what: str) -> None:
        self.entries.append((time.monotonic() - self.began, what))
        print(f"{self.entries[-1][0]:6.1f} s  {what}", flush=True)

    def quote(self, job: str, line: str) -> None:
        """Print a line of a step, but not the commands that tell the runner what to hide."""
        if not line.startswith(("::add-mask::", "::endgroup::")):
            shown = line.removeprefix("::group::")
            print(f"          {job:>5} | {shown}", flush=True)


def gpus_here() -> int:
    """Return how many GPUs this machine has, so that the gate looks at them too."""
    if not shutil.which("nvidia-smi"):
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
