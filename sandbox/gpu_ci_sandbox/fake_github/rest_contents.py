"""The REST endpoint that reads a repository's files."""

from __future__ import annotations

import base64
import hashlib
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from flask import Blueprint, jsonify, request

from gpu_ci_sandbox.fake_github.access import Refusal, github, not_found, repository, root

if TYPE_CHECKING:
    from flask import Response

contents = Blueprint("contents", __name__)

# Above this GitHub says that there is a file, and sends nothing of it.
MOST_SENT = 1024 * 1024


@contents.get("/repos/<owner>/<name>/contents/", defaults={"path": ""})
@contents.get("/repos/<owner>/<name>/contents/<path:path>")
def get_content(owner: str, name: str, path: str) -> Response:
    """A file with its content, or what a folder holds."""
    of = repository(owner, name, "contents", "read")
    commit = request.args.get("ref", "")
    try:
        files = github().contents.at(of.full_name, commit)
    except KeyError:
        raise Refusal(HTTPStatus.NOT_FOUND, f"No commit found for the ref {commit}") from None
    where = f"{root()}/repos/{of.full_name}"
    if path in files:
        return jsonify(_file(where, path, files[path], commit))
    listed = _children(path, files)
    if not listed and path:
        raise not_found()
    return jsonify([_entry(where, each, size, commit) for each, size in sorted(listed.items())])


def _children(folder: str, files: dict[str, bytes]) -> dict[str, int | None]:
    """What lies in a folder: the size of each file, None for a folder."""
    above = PurePosixPath(folder)
    found: dict[str, int | None] = {}
    for path, data in files.items():
        if PurePosixPath(path).is_relative_to(above):
            below = PurePosixPath(path).relative_to(above).parts
            found[str(above / below[0])] = None if below[1:] else len(data)
    return found


def _file(where: str, path: str, data: bytes, commit: str) -> dict[str, Any]:
    sent = len(data) <= MOST_SENT
    return _entry(where, path, len(data), commit) | {
        "encoding": "base64" if sent else "none",
        # GitHub breaks the lines.
        "content": base64.encodebytes(data).decode() if sent else "",
    }


def _entry(where: str, path: str, size: int | None, commit: str) -> dict[str, Any]:
    sha = hashlib.sha1(f"{path} {size}".encode(), usedforsecurity=False).hexdigest()
    kind, tree = ("dir", "trees") if size is None else ("file", "blobs")
    links = {
        "self": f"{where}/contents/{path}?ref={commit}",
        "git": f"{where}/git/{tree}/{sha}",
        "html": f"{where}/blob/{commit}/{path}",
    }
    return {
        "type": kind,
        "size": size or 0,
        "name": PurePosixPath(path).name,
        "path": path,
        "sha": sha,
        "url": links["self"],
        "git_url": links["git"],
        "html_url": links["html"],
        "download_url": None if size is None else f"{where}/raw/{commit}/{path}",
        "_links": links,
    }
