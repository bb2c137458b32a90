"""The shell text that starts a boot script as root on a machine of JarvisLabs.

A container runs it as its startup script at each start; on a virtual machine, and on a machine
that is running already, it goes in over SSH.
"""

from __future__ import annotations

import hashlib
import shlex
from itertools import count
from typing import Final

from gpu_ci.model.tags import slug

# A pause keeps only /home of a container.
ROOT: Final = "/home/gpu-ci"
HOME: Final = f"{ROOT}/home"
BOOT_LOG: Final = f"{ROOT}/boot.log"
STARTED_BY_US: Final = "started by gpu-ci"

# Only root's own files count: jobs can write in /dev/shm too, but are not root.
_START: Final = """\
#!/bin/sh
set -e
umask 077
(umask 022 && mkdir -p {root})
exec 2>{root}/startup.log
mark={mark}
{before}
rm -f {root}/start.sh
set -C
cat >{root}/start.sh <<'{end}'
{script}
{end}
{after}
setsid sh {root}/start.sh </dev/null >/dev/null 2>&1 &
"""
# A start that is sent again after a lost answer is still one start.
_ONCE: Final = (
    'if [ -O "$mark" ] && [ "$(cat "$mark")" = {digest} ]; then exit 0; fi\nrm -f "$mark"'
)
_MARK: Final = 'echo {digest} >"$mark"'
_TELL: Final = 'if [ -O "$mark" ] && [ ! -L "$mark" ]; then echo {words}; fi'


def starting(name: str, boot_script: str) -> str:
    """Return what starts the boot script, detached, and marks this uptime as ours.

    /dev/shm, where the mark is, is empty at each start of a machine.
    """
    digest = hashlib.sha256(boot_script.encode()).hexdigest()
    return _filled(
        name, boot_script, before=_ONCE.format(digest=digest), after=_MARK.format(digest=digest)
    )


def taking_over(name: str, boot_script: str) -> str:
    """Return what starts the boot script on a machine that runs already, and prints
    `STARTED_BY_US` where this library had started it."""
    return _filled(
        name, boot_script, before="", after=_TELL.format(words=shlex.quote(STARTED_BY_US))
    )


def _filled(name: str, boot_script: str, *, before: str, after: str) -> str:
    """Fill the text in, in one step and with the script behind a quoted word: nothing expands."""
    return _START.format(
        root=ROOT,
        mark=f"/dev/shm/gpu-ci.{slug(name)}",  # noqa: S108 -- of the machine, not of this one
        before=before,
        script=boot_script.removesuffix("\n"),
        end=_end_of(boot_script),
        after=after,
    )


def _end_of(text: str) -> str:
    """Return a word that is not a line of the text."""
    lines = set(text.splitlines())
    words = (f"GPU_CI_END_{number}" for number in count())
    return next(word for word in words if word not in lines)
