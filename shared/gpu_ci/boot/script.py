"""Fills in boot.sh, every value quoted."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the boot script must know about the machine that it runs on.

    `root` is the folder for the runner and its logs; `user` the account to run it as, made when it
    is missing (ignored where the script does not run as root); `console` a file that also gets
    every report, such as /dev/console, so that the cloud can show it; `ends_by` how the machine
    ends itself: `poweroff`, or `exit` to end the boot script's own process group.

    `home` says that the machine is kept: it boots again on the same `root`, and may have forgotten
    its users meanwhile. The folder becomes the runner's HOME, with every cache below it; "" leaves
    HOME to the system, on a machine that boots once. It must lie where only root may write, such as
    directly below `root`, which becomes root's own. A missing `user` is made with the number of the
    folder's owner, and what belongs to another number is given to the user. The account is the
    runner's alone: all of its processes are ended at the end of a boot and before the next. If the
    script is not root, the folder is HOME if it can be written, else `home` below `root` is.
    """

    root: str
    user: str = "gpu-ci"
    home: str = ""
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
    jit_config: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
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


def render(boot: Boot) -> str:
    """Return the script for one machine. It holds a secret: keep it readable by its owner only.

    Write it without translating line ends. Raises ValueError for what no shell can hold: a NUL, or
    a variable's name that is not one.
    """
    filled = {name: f"{name}={shlex.quote(text)}" for name, text in _values(boot).items()}
    filled["variables"] = _variables(boot.variables)
    # In one pass: what was filled in is never searched again.
    script = _BLANK.sub(lambda blank: filled[blank["value"] or blank["list"]], _template())
    if "\0" in script:
        raise ValueError("a boot script cannot hold a NUL character")
    return script


_BLANK = re.compile(r"^(?:(?P<value>[A-Z_]+)=''|(?P<list>variables)\(\) \{ :; \})$", re.MULTILINE)


def _template() -> str:
    lines = Path(__file__).with_name("boot.sh").read_text(encoding="utf-8").splitlines(True)
    return lines[0] + "".join(line for line in lines if not re.match(r"\s*(#|$)", line))


def _values(boot: Boot) -> dict[str, str]:
    place, registration = boot.place, boot.registration
    return {
        "MACHINE": registration.name,
        "ROOT": place.root,
        "ACCOUNT": place.user,
        "USER_HOME": place.home.rstrip("/"),  # with a slash, a link in its place would not be seen
        "CONSOLE": place.console,
        "ENDS_BY": place.ends_by,
        "RUNNERS": "\n".join(f"{one.architecture} {one.sha256} {one.url}" for one in boot.runners),
        "JIT_CONFIG": registration.jit_config,
        "TOKEN": registration.token,
        "URL": registration.url,
        "GROUP": registration.group,
        "LABELS": ",".join(registration.labels),
        "PICKUP": _seconds(boot.pickup),
        "IDLE": _seconds(boot.idle),
        "LIFETIME": _seconds(boot.lifetime),
        "GPUS": str(boot.gpus),
        "SETUP_SCRIPT": boot.setup_script,
    }


def _seconds(duration: float) -> str:
    return str(max(1, math.ceil(duration)))


def _variables(variables: Iterable[tuple[str, str]]) -> str:
    return "\n".join(["variables() {", ":", *(_export(*pair) for pair in variables), "}"])


def _export(name: str, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"{name!r} is not a name for an environment variable")
    return f"export {name}={shlex.quote(value)}"
