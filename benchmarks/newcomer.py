"""Times a newcomer's path: a clone to a green demo, and `gpu-ci init` to a workflow that lints.

Nothing is kept from before: the home, the environment and the caches are new. What is downloaded
comes over the network of the machine that this runs on, so the seconds are that network's too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INIT = ("--provider", "jarvislabs", "--machine", "A100", "--run", "uv run pytest -m gpu", "--yes")
PASSED_ON = ("SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="gpu-ci-newcomer-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # the demo's runner is another user
        (folder / "home").mkdir()
        clone, own = folder / "gpu-ci", folder / "science"
        steps = {
            "clone": (["git", "clone", "-q", str(ROOT), str(clone)], folder),
            "first demo": (["sh", "shared/run", "demo"], clone),
            "second demo": (["sh", "shared/run", "demo"], clone),
            "a repository of one's own": (["git", "init", "-q", str(own)], folder),
            "init": (["sh", "../gpu-ci/shared/run", "init", *INIT], own),
            "actionlint": ([str(Path(sys.executable).with_name("actionlint"))], own),
        }
        for step, (command, where) in steps.items():
            print(f"{step}: {seconds(command, where, folder / 'home'):.1f} s")


def seconds(command: list[str], where: Path, home: Path) -> float:
    """Run a command as somebody who has just come; return how long it took."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home), **passed}
    began = time.monotonic()
    done = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stdout}{done.stderr}")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
