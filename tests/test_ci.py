"""The project's own workflows: what they may do, and that their scripts do what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpu_ci_sandbox.act.act_run import Outcome, run_workflow
from gpu_ci_sandbox.action_step import BASH
from gpu_ci_sandbox.timeline import Timeline
from gpu_ci_sandbox.world import World, open_world

ROOT = Path(__file__).resolve().parents[1]
CI = ROOT / ".github" / "workflows" / "ci.yml"
WORKFLOWS = sorted(CI.parent.glob("*.yml"))
GATE = "required"
NOBODY = 65534
SELF_TESTS = ("self-test", "self-test-refusal")
PINNED = re.compile(r"uses: (?:\$/\S+|[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+)")
GRANTED = re.compile(r" +[\w-]+: (?:read|write)(?P<why> # \S.*)?")

each_workflow = pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)


def load(file: Path) -> dict[str, Any]:
    workflow: dict[str, Any] = yaml.safe_load(file.read_text())
    return workflow


def plain_jobs(file: Path) -> dict[str, dict[str, Any]]:
    """Return the jobs that have steps; the others call a workflow, which has its own."""
    return {name: job for name, job in load(file)["jobs"].items() if "steps" in job}


@each_workflow
def test_every_action_is_pinned(file: Path) -> None:
    """What is used is of this commit, or a full commit id with its version behind it."""
    lines = [line for line in file.read_text().splitlines() if re.match(r"[ -]*uses:", line)]
    assert [line for line in lines if not PINNED.fullmatch(line.strip(" -"))] == []


@each_workflow
def test_every_job_has_a_time_limit_and_its_own_permissions(file: Path) -> None:
    """No right is inherited, each that is granted says why, and no job runs for six hours."""
    assert load(file)["permissions"] == {}
    for name, job in plain_jobs(file).items():
        assert job.get("timeout-minutes"), name
        assert "permissions" in job, name
    grants = [match for line in file.read_text().splitlines() if (match := GRANTED.fullmatch(line))]
    assert [grant[0] for grant in grants if not grant["why"]] == []


@each_workflow
def test_no_expression_is_spliced_into_a_script(file: Path) -> None:
    """Values reach scripts by their environment: what an attacker names a branch is data."""
    steps = [step for job in plain_jobs(file).values() for step in job["steps"]]
    assert [step["run"] for step in steps if "${{" in step.get("run", "")] == []


@each_workflow
def test_a_checkout_leaves_no_token_behind(file: Path) -> None:
    """No later step finds the job's token in .git/config."""
    for job in plain_jobs(file).values():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_ci_needs_no_secret() -> None:
    """Pull requests from forks, which get no secrets, are tested like all others."""
    assert "secrets." not in CI.read_text()


def test_ci_checks_every_python_that_the_project_promises() -> None:
    """The matrix is the list of classifiers."""
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    promised = [line.rpartition(" ")[2] for line in classifiers if " 3." in line]
    assert load(CI)["jobs"]["check"]["strategy"]["matrix"]["python"] == promised


def test_the_gate_waits_for_every_job() -> None:
    """A job that the gate does not need could fail unseen."""
    jobs = load(CI)["jobs"]
    assert sorted(jobs[GATE]["needs"]) == sorted(jobs.keys() - {GATE})
    assert jobs[GATE]["if"] == "always()"


@pytest.mark.parametrize(
    ("results", "opens"),
    [
        (["success", "success"], True),
        (["success", "failure"], False),
        (["success", "cancelled"], False),
        (["skipped", "success"], False),
        ([], False),
    ],
)
def test_the_gate_opens_for_success_only(results: list[str], *, opens: bool) -> None:
    """A job that failed, was cancelled or skipped keeps the gate shut, and so does having none."""
    needs = {f"job-{i}": {"result": result, "outputs": {}} for i, result in enumerate(results)}
    step = load(CI)["jobs"][GATE]["steps"][0]
    done = subprocess.run(
        [*BASH, "-c", step["run"]],
        env={"PATH": "/usr/bin:/bin", "NEEDS": json.dumps(needs)},
        check=False,
    )
    assert (done.returncode == 0) == opens


def test_the_self_tests_pass(tmp_path: Path) -> None:
    """The self-test jobs, as they stand, succeed under act, and so does the gate behind them."""
    with open_world(tmp_path) as world:
        outcome = run_self_tests(world, tmp_path / "checkout")
    names = {each: load(CI)["jobs"][each].get("name", each) for each in (*SELF_TESTS, GATE)}
    assert outcome.conclusions == dict.fromkeys(names.values(), "success")
    whole, refusal = (outcome.log(names[each]) for each in SELF_TESTS)
    assert '"success"' in whole  # of the job on the runner
    assert "is given back" in whole
    assert "nowhere" in refusal


@pytest.mark.parametrize("leaks", [True, False])
def test_a_process_that_is_left_is_seen(*, leaks: bool) -> None:
    """By a user who may not read every process: grep fails then, whatever it has found."""
    steps = load(CI)["jobs"][SELF_TESTS[0]]["steps"]
    (script,) = [s["run"] for s in steps if s.get("name") == "Expect that nothing is left"]
    _, processes = script.split("\n", 1)  # the line before asks the sandbox
    runner = f"m-{os.getpid()}-{leaks}"
    marked = {"PATH": "/usr/bin:/bin", "GPU_CI_MACHINE": runner if leaks else "another"}
    env = {"PATH": "/usr/bin:/bin", "RUNNER": runner}
    who: dict[str, Any] = (
        {} if os.geteuid() else {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    )
    with subprocess.Popen(["sleep", "60"], env=marked, **who) as left:
        try:
            done = subprocess.run([*BASH, "-c", processes], env=env, cwd="/", check=False, **who)
        finally:
            left.kill()
    assert done.returncode == (1 if leaks else 0)


def run_self_tests(world: World, checkout: Path) -> Outcome:
    """Run the self-tests and the gate in a copy of what they need of the repository."""
    for part in ("action-start", "action-stop", "sandbox", "shared"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, checkout / part, ignore=ignored)
    for part in ("pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / part, checkout)
    file = checkout / CI.relative_to(ROOT)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(self_tests(world.local_options())))
    subprocess.run(["git", "init", "-q", str(checkout)], check=True)
    return run_workflow(file, world, Timeline())


def self_tests(options: str) -> dict[str, Any]:
    """Return ci.yml without what would run this test again, its machines where all can see them."""
    jobs = load(CI)["jobs"]
    text = json.dumps({name: jobs[name] for name in (*SELF_TESTS, GATE)})
    assert text.count("sh shared/run sandbox") == 1
    # Without the setting up of its environment: the tests' own has it all.
    served = text.replace("sh shared/run sandbox", f"{sys.executable} -I shared sandbox")
    kept: dict[str, dict[str, Any]] = json.loads(served)
    kept[GATE]["needs"] = list(SELF_TESTS)
    for step in [step for job in kept.values() for step in job["steps"]]:
        if step.get("uses", "").startswith("$/"):
            step["with"]["provider-options"] = options
    return {"on": "push", "jobs": kept}
