"""REST endpoint of what a job's steps have left on its check run, whose id is the job's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, jsonify

from gpu_ci_sandbox.fake_github.access import github, not_found, repository, root
from gpu_ci_sandbox.fake_github.pages import page

if TYPE_CHECKING:
    from flask import Response

    from gpu_ci_sandbox.fake_github.annotations import Annotation

checks = Blueprint("checks", __name__)


@checks.get("/repos/<owner>/<name>/check-runs/<int:job_id>/annotations")
def list_annotations(owner: str, name: str, job_id: int) -> Response:
    """Oldest first, as a list without a total."""
    of = repository(owner, name, "checks", "read")
    job = github().runs.job(job_id)
    run = github().runs.get(job.run_id) if job else None
    if job is None or run is None or run.repository != of.full_name:
        raise not_found()
    where = f"{root()}/{of.full_name}/blob/{run.sha}/.github"
    shown = page("items", github().annotations.get(job_id, []), lambda each: _shape(each, where))
    bare = jsonify(shown.get_json()["items"])
    if "Link" in shown.headers:
        bare.headers["Link"] = shown.headers["Link"]
    return bare


def _shape(record: Annotation, where: str) -> dict[str, Any]:
    """`check-annotation`; what names no file is said to be of `.github`."""
    return {
        "path": ".github",
        "blob_href": where,
        "start_line": 1,
        "start_column": None,
        "end_line": 1,
        "end_column": None,
        "annotation_level": record.level,
        "title": record.title,
        "message": record.message,
        "raw_details": "",
    }
