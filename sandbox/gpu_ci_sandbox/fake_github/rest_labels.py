"""REST endpoints of the labels on an issue or a pull request."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from zlib import crc32

from flask import Blueprint, g, jsonify

from gpu_ci_sandbox.fake_github.access import Refusal, github, not_found, repository, root

if TYPE_CHECKING:
    from flask import Response

labels = Blueprint("labels", __name__)

LABELS = "/repos/<owner>/<name>/issues/<int:number>/labels"


def _labels(owner: str, name: str, number: int, level: str) -> list[str]:
    """What is on the issue, if the caller may: by its right over issues or over pull requests."""
    caller = g.credential
    permission = "issues" if caller and caller.may("issues", level) else "pull_requests"
    of = repository(owner, name, permission, level)
    found = github().issue_labels.get((of.full_name, number))
    if found is None:
        raise not_found()
    return found


def _shown(owner: str, name: str, found: list[str]) -> Response:
    return jsonify([_shape(owner, name, each) for each in found])


def _shape(owner: str, name: str, each: str) -> dict[str, Any]:
    """`label`."""
    return {
        "id": crc32(each.casefold().encode()),
        "node_id": f"LA_{each.casefold().encode().hex()}",
        "url": f"{root()}/repos/{owner}/{name}/labels/{quote(each, safe='')}",
        "name": each,
        "description": None,
        "color": "ededed",
        "default": False,
        "archived_at": None,
        "archived_by": None,
    }


@labels.get(LABELS)
def list_labels(owner: str, name: str, number: int) -> Response:
    return _shown(owner, name, _labels(owner, name, number, "read"))


@labels.delete(f"{LABELS}/<path:wanted>")
def remove_label(owner: str, name: str, number: int, wanted: str) -> Response:
    """Answers with the labels that are left; case makes no difference."""
    found = _labels(owner, name, number, "write")
    known = next((each for each in found if each.casefold() == wanted.casefold()), None)
    if known is None:
        raise Refusal(HTTPStatus.NOT_FOUND, "Label does not exist")
    found.remove(known)
    return _shown(owner, name, found)
