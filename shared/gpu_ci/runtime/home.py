"""The home folder of the user that a step runs as."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def find_home(claimed: str, uid: int) -> Path | None:
    """Return HOME if it is this user's, else the home in the user database, None if neither will do.

    A runner that is started by a service, `su` or `docker exec` often has root's HOME, `/` or none.
    """
    candidates = [claimed, _home_of(uid)]
    usable = (Path(text) for text in candidates if text.startswith("/") and text.strip("/"))
    return next((path for path in usable if _is_own(path, uid)), None)


def _home_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:  # a container's user is often in no database
        return ""


def _is_own(path: Path, uid: int) -> bool:
    """Say whether a folder can be this user's home: theirs, or a writable one that is nobody's.

    Root may write everywhere; what it leaves in another's home would be in that user's way.
    """
    try:
        owner = path.stat().st_uid
    except OSError:
        return False
    if not path.is_dir() or not os.access(path, os.W_OK | os.X_OK):
        return False
    return owner == uid or _home_of(owner) != str(path)
