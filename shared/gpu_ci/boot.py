"""Fills in boot.sh, every value quoted, and reads back what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the boot script must know of the machine that it runs on.

    `root` is the folder for the runner and its logs; `user` the account to run it as, made when it
    is missing (ignored where the script does not run as root); `console` a file that also gets
    every report, such as /dev/console, so that the cloud can show it; `ends_by` how the machine
    ends itself: `poweroff`, or `exit` to end the boot script's own process group.
    """

    root: str
    user: str = "gpu-ci"
    console: str = ""
    ends_by: Literal["poweroff", "exit"] = "poweroff"


@dataclass(frozen=True, kw_only=True)
class RunnerBuild:
    """A runner archive for one architecture (`x64`, `arm64`) and its checksum."""

    architecture: str
    url: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Registration:
    """How the runner gets to GitHub: a just-in-time config, or a token for `config.sh`.

    With a token: `url` is the repository's or organisation's page, `group` a runner group or "".
    """

    name: str
    labels: tuple[str, ...]
    jit_config: str = ""
    token: str = ""
    url: str = ""
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Boot:
    """Everything that one boot script depends on. Times are in seconds.

    `pickup` is how long the machine may be up before its runner listens; `idle` how long the runner
    may listen without a job; `lifetime` how long the machine may live at all. `gpus` 0 means that
    no GPU is looked for.
    """

    place: Place
    registration: Registration
    runners: tuple[RunnerBuild, ...]
    pickup: float
    idle: float
    lifetime: float
    gpus: int = 0
    setup_script: str = ""
    variables: tuple[tuple[str, str], ...] = ()
