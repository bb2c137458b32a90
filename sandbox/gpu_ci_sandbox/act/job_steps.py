"""First and last step of each job of a workflow under act: the sandbox's record of that job.

Run by path, with the standard library only. `enter` queues a job in the sandbox: one for a hosted
machine is in progress at once, one for a rented machine waits until a runner with its labels has
begun it, and holds that runner until `leave`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX: Final = "GPU_CI_DEMO_"
# Before the path of a job's names, which is the name that act knows the job by.
MARK: Final = "gpu-ci-job:"
SEPARATOR: Final = " / "
# Labels of machines that are not rented, in a job whose `runs-on` only may be.
HOSTED: Final = re.compile(r"(?:ubuntu|windows|macos)-[\w.-]+")
HOSTED_GROUP: Final = "GitHub Actions"
PICKUP_SECONDS: Final = 60.0
END_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.1
# What the runner executes meanwhile: it ends with the code that `leave` writes.
HOLD: Final = 'until [ -s "$END" ]; do sleep 0.1; done; exit "$(cat "$END")"'
NO_LABEL: Final = "no-label"
STATUSES: Final = {"success": "0\n", "failure": "1\n", "cancelled": "1\n"}


def main() -> None:
    {"enter": enter, "leave": leave}[sys.argv[1]]()


def enter() -> None:
    """Make the record; for a rented machine wait until its runner has begun the job."""
    labels = read_labels(given("RUNS_ON"))
    if given("RENTED") and not any(HOSTED.fullmatch(label) for label in labels):
        enter_rented(labels)
    else:
        # Without a label (only a group) any idle runner would take it.
        order = {"run": int(given("RUN")), "name": name(), "labels": labels or [NO_LABEL]}
        job = ask("POST", "jobs", order)
        runner = f"Hosted Agent {name()}"
        begun = {"status": "in_progress", "runner_name": runner, "group_name": HOSTED_GROUP}
        ask("PATCH", f"jobs/{job['id']}", begun)
        tell("GITHUB_OUTPUT", "job", job["id"])
        tell("GITHUB_ENV", "RUNNER_NAME", runner)


def enter_rented(labels: list[str]) -> None:
    if not labels or not all(labels):
        sys.exit(
            "runs-on is empty: the job that should have set it did not. Nothing would run this."
        )
    if os.environ.get("GITHUB_RUN_ATTEMPT", "1") == "1":
        check_runner(labels)  # in a later attempt a job next to this one may bring it
    end = Path(given("ENDS")) / uuid.uuid4().hex
    order = {
        "run": int(given("RUN")),
        "name": name(),
        "labels": labels,
        "script": HOLD,
        "env": {"END": str(end)},
    }
    job = ask("POST", "jobs", order)
    tell("GITHUB_OUTPUT", "job", job["id"])
    tell("GITHUB_OUTPUT", "end", end)
    print(f"Queued with label {', '.join(labels)}.")
    begun = wait_while(job["id"], "queued", PICKUP_SECONDS)
    print(f"Picked up by {begun['runner_name']}.")
    tell("GITHUB_ENV", "RUNNER_NAME", begun["runner_name"])


def check_runner(labels: list[str]) -> None:
    """Fail at once where waiting is in vain: no registered runner has the labels."""
    runners = ask("GET", "state")["runners"]
    wanted = {label.lower() for label in labels}
    for runner in runners:
        if wanted <= {label["name"].lower() for label in runner["labels"]}:
            return
    names = ", ".join(runner["name"] for runner in runners) or "none"
    sys.exit(
        f"No runner has the labels {labels}. Registered: {names}. Nothing would take this job."
    )


def leave() -> None:
    """End the record as the job ended, and see that its runner is free again."""
    job_id, status = given("JOB"), given("STATUS")
    if not job_id:
        return
    (Path(given("ENDED")) / job_id).write_text(given("OUTPUTS"))
    if not given("END") or ask("GET", f"jobs/{job_id}")["status"] == "queued":
        ask("PATCH", f"jobs/{job_id}", {"conclusion": status})
        return
    end = Path(given("END"))
    end.write_text(STATUSES[status])
    end.chmod(0o644)  # the runner is another user
    ended = wait_while(job_id, "in_progress", END_SECONDS)
    expected = "success" if status == "success" else "failure"
    if ended["conclusion"] != expected:
        sys.exit(f"The runner lost this job: it ended as {ended['conclusion']}.")


def wait_while(job_id: str, status: str, seconds: float) -> dict[str, Any]:
    """Return the job as soon as its status is another one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job = ask("GET", f"jobs/{job_id}")
        if job["status"] != status:
            return job
        time.sleep(LOOK_SECONDS)
    sys.exit(f"Job {name()} is still {status} after {seconds:.0f} s.")


def read_labels(text: str) -> list[str]:
    """Read `runs-on`: JSON strings and lists of them, one after the other."""
    labels: list[str] = []
    for value in read_values(text):
        labels += value if isinstance(value, list) else [value]
    if not all(labels):
        sys.exit(
            "runs-on is empty: the job that should have set it did not. Nothing would run this."
        )
    return labels


def read_values(text: str) -> Iterator[Any]:
    """Read JSON values, one after the other."""
    decoder = json.JSONDecoder()
    rest = text.strip()
    while rest:
        value, used = decoder.raw_decode(rest)
        yield value
        rest = rest[used:].strip()


def name() -> str:
    """Return the job's name as GitHub builds it."""
    return shown_name(given("NAME"))


def shown_name(path: str) -> str:
    """Return a job's name as GitHub builds it: those of the jobs that call it before its own.

    Each is the job's `name`, or its id, with its matrix' values behind it.
    """
    return SEPARATOR.join(_shown(level) for level in read_values(path))


def _shown(level: dict[str, Any]) -> str:
    values = ", ".join(str(value) for value in (level.get("matrix") or {}).values())
    return str(level.get("name") or level["id"]) + (f" ({values})" if values else "")


def ids(path: str) -> tuple[str, ...]:
    """Return the ids of the jobs that call a job, and its own."""
    return tuple(level["id"] for level in read_values(path))


def ask(method: str, path: str, sent: dict[str, Any] | None = None) -> dict[str, Any]:
    # No proxy stands between this machine and its own loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(  # noqa: S310 -- the address is the sandbox's own
        f"{given('URL')}/_sandbox/{path}",
        data=None if sent is None else json.dumps(sent).encode(),
        headers={"Content-Type": "application/json"},
        method=method,
    )
    with opener.open(request, timeout=30) as response:
        answer: dict[str, Any] = json.loads(response.read())
    return answer


def given(variable: str) -> str:
    return os.environ.get(PREFIX + variable, "")


def tell(file: str, key: str, value: object) -> None:
    """Write an output or a variable of the job."""
    with Path(os.environ[file]).open("a", encoding="utf-8") as commands:
        commands.write(f"{key}={value}\n")


if __name__ == "__main__":
    main()
