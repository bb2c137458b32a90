"""What runs when: every `if` of the callable workflows, asked of GitHub's own evaluator.

Over all results of what comes before, and all values that it reads.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.workflows.conditions import (
    ALWAYS,
    ATTEMPTS,
    MEANINGS,
    RERUN,
    RESULTS,
    TEXT,
    At,
    Meaning,
    combinations,
    of_job,
    of_step,
)
from tests.workflows.official import ROOT, Case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.workflows.official import Official

FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(file.name for file in FOLDER.glob("*.yml") if "workflow_call:" in file.read_text())
EXPRESSION = re.compile(r"\s*\$\{\{((?:(?!\}\}).)*)\}\}\s*", re.DOTALL)
PLAIN = "success()"
VERDICTS = ("go", "no", "neutral", "elsewhere", "")
RUNNER = "inputs.runner"
Where = tuple[str, str, str]
GIVE_BACK = ("Give the machine back", "Give back what the watch has started")
# Those that are always true, so that a slip may not change them.
EVERYWHERE = {where for where, meaning in MEANINGS.items() if meaning is ALWAYS}
SLIPS = {
    "==": "!=", "!=": "==", "&&": "||", "||": "&&", ">": "<",
    "success()": "failure()", "failure()": "success()", "!cancelled()": "cancelled()",
}  # fmt: skip
OTHERS = {
    ("gpu-job.yml", "result", "name"),
    ("gpu-job.yml", "loop", "concurrency"),
    ("gpu-loop.yml", "test", "runs-on"),
}
REFUSE = "Refuse to go on without a machine"


@cache
def jobs_of(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / name).read_text())["jobs"]
    return found


def needs_of(job: dict[str, Any]) -> list[str]:
    needs = job.get("needs", [])
    return [needs] if isinstance(needs, str) else needs


@cache
def written(official: Official) -> dict[Where, str]:
    """Return each condition of each callable workflow, by file, job and the step's name."""
    found = {}
    for name in FILES:
        jobs = jobs_of(name)
        for each in official.conditions(f".github/workflows/{name}", (FOLDER / name).read_text()):
            step = "" if each.step is None else jobs[each.job]["steps"][each.step]["name"]
            found[name, each.job, step] = each.expression
    return found


def met(where: Where, values: Meaning) -> list[At]:
    """Return every combination that a job or a step may meet."""
    name, job, step = where
    return list(
        of_step(values.values) if step else of_job(values.values, needs_of(jobs_of(name)[job]))
    )


def answers(where: Where, cases: list[At], official: Official) -> list[bool]:
    expression = written(official)[where]
    values = official.evaluate(expression, [at.case() for at in cases])
    return [bool(value) for value in values]


def test_each_condition_has_a_meaning(official: Official) -> None:
    """A new `if` has to say here what it is for."""
    found = {where for where, expression in written(official).items() if expression != PLAIN}
    assert found == {*MEANINGS}


@pytest.mark.parametrize("where", MEANINGS, ids="|".join)
def test_it_says_what_it_means(where: Where, official: Official) -> None:
    """In every combination of results, inputs and outputs (pain 45)."""
    meaning = MEANINGS[where]
    cases = met(where, meaning)
    wanted = [bool(meaning.says(at)) for at in cases]
    assert answers(where, cases, official) == wanted
    assert len(set(wanted)) == (1 if meaning is ALWAYS else 2)


@pytest.mark.parametrize("where", sorted(set(MEANINGS) - EVERYWHERE), ids="|".join)
def test_a_slip_in_it_would_be_seen(where: Where, official: Official) -> None:
    """Each comparison turned round, each `and` for an `or`, each status for another: the table differs."""
    meaning = MEANINGS[where]
    expression = written(official)[where]
    cases = met(where, meaning)
    told = [at.case() for at in cases]
    wanted = [bool(meaning.says(at)) for at in cases]
    made = list(slips(expression))
    assert made
    for slip in made:
        assert [bool(value) for value in official.evaluate(slip, told)] != wanted, slip


def slips(expression: str) -> Iterator[str]:
    """Yield the expression with one operator or status function replaced."""
    for found in re.finditer("|".join(map(re.escape, SLIPS)), expression):
        yield expression[: found.start()] + SLIPS[found[0]] + expression[found.end() :]


@pytest.mark.parametrize("name", FILES)
def test_what_else_is_evaluated_is_plain_or_known(name: str) -> None:
    """Names, runners and concurrency groups are words or the caller's own, or have a test below."""
    for job_id, job in jobs_of(name).items():
        for key in ("name", "runs-on", "concurrency"):
            written = json.dumps(job.get(key, ""))
            if "${{" in written and written != json.dumps(f"${{{{ {RUNNER} }}}}"):
                assert (name, job_id, key) in OTHERS


@pytest.mark.parametrize("name", FILES)
def test_each_job_names_all_that_come_before_it(name: str) -> None:
    """So that `success()` and `failure()` are the same of what it needs and of what those need."""
    jobs = jobs_of(name)
    for job in jobs.values():
        direct = {*needs_of(job)}
        assert {above for each in direct for above in needs_of(jobs[each])} <= direct


def histories(name: str, official: Official) -> Iterator[dict[str, str]]:
    """Yield what each job of a file may end as: it is skipped by its `if`, or ends in any way.

    In some the run is cancelled before a job, whose `if` is then asked with that known.
    """
    found = {w[1]: each for w, each in written(official).items() if w[0] == name and not w[2]}
    jobs = jobs_of(name)
    for cancelled_before in (None, *jobs):
        histories: list[dict[str, str]] = [{}]
        cancelled = False
        for job in jobs:
            cancelled = cancelled or job == cancelled_before
            histories = [
                {**history, job: end}
                for history in histories
                for end in ends(found[job], needs_of(jobs[job]), history, cancelled, official)
            ]
        yield from histories


def ends(
    expression: str, needs: list[str], history: dict[str, str], cancelled: bool, official: Official
) -> tuple[str, ...]:
    """Return how a job may end after this history; its outputs say what its result allows."""
    results = {need: history[need] for need in needs}
    contexts = {
        "needs": {
            need: {"result": result, "outputs": {"run": str(result == "success").lower()}}
            for need, result in results.items()
        }
    }
    case = Case(
        contexts=contexts,
        success={*results.values()} <= {"success"} and not cancelled,
        failure="failure" in results.values(),
        cancelled=cancelled,
    )
    (runs,) = official.evaluate(expression, [case])
    return ("success", "failure", "cancelled") if runs else ("skipped",)


def test_stop_runs_wherever_start_has_begun(official: Official) -> None:
    """Whatever became of start, of the GPU job and of the run (pain 45)."""
    told = list(histories("gpu-loop.yml", official))
    begun = [each for each in told if each["start"] != "skipped"]
    assert len(begun) > 50
    assert [each for each in begun if each["stop"] == "skipped"] == []


def test_the_gpu_job_and_the_watch_want_a_start_that_succeeded(official: Official) -> None:
    """A job that nobody would pick up is not queued, and nobody waits for one."""
    for each in histories("gpu-loop.yml", official):
        if each["start"] != "success":
            assert (each["test"], each["watch"]) == ("skipped", "skipped")


def test_nothing_is_rented_without_the_gates_word(official: Official) -> None:
    """A gate that failed, or was cancelled, is a no; the result is told in any case."""
    for each in histories("gpu-job.yml", official):
        assert each["loop"] == "skipped" or each["gate"] == "success"
        assert each["result"] != "skipped"


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_result_fails_unless_all_is_well(verdict: str) -> None:
    """It succeeds after a GPU job that did, and where the gate wanted none; in nothing else."""
    (step,) = jobs_of("gpu-job.yml")["result"]["steps"]
    for gate, loop in itertools.product(RESULTS, RESULTS):
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            env={"GATE": gate, "VERDICT": verdict, "LOOP": loop},
            capture_output=True,
            check=False,
        )
        well = (verdict, loop) == ("go", "success") or (
            verdict in {"neutral", "elsewhere"} and loop == "skipped"
        )
        assert (done.returncode == 0) == (gate == "success" and well), (gate, loop)


def value(text: str, cases: list[At], official: Official) -> list[Any]:
    """Return what an expression of a workflow becomes."""
    found = EXPRESSION.fullmatch(text)
    assert found
    return official.evaluate(found[1].strip(), [at.case() for at in cases])


def test_the_result_has_its_name_only_where_it_counts(official: Official) -> None:
    """A run of another label may not satisfy the check that is required (pain 46)."""
    job = jobs_of("gpu-job.yml")["result"]
    cases = list(of_job({"needs.gate.outputs.verdict": VERDICTS}, ["gate"]))
    wanted = [
        "not this run" if at["needs.gate.outputs.verdict"] == "elsewhere" else "result"
        for at in cases
    ]
    assert value(job["name"], cases, official) == wanted


def test_runs_that_want_one_machine_take_turns(official: Official) -> None:
    """In the group that the gate names, each to its end, none dropped (pain 46)."""
    turns = jobs_of("gpu-job.yml")["loop"]["concurrency"]
    cases = [
        At(values={"needs.gate.outputs.group": "g"}, success=True, failure=False, cancelled=False)
    ]
    assert value(turns["group"], cases, official) == ["g"]
    assert turns["queue"] == "max"
    assert "cancel-in-progress" not in turns


STARTED = {"needs.start.outputs.label": TEXT, RUNNER: ("hosted",), **RERUN}


def test_the_gpu_job_is_never_where_it_should_not_be(official: Official) -> None:
    """It asks for the machine of its start, or for a hosted runner on which its first step fails."""
    job = jobs_of("gpu-loop.yml")["test"]
    cases = list(of_step(STARTED))
    labels = value(job["runs-on"], cases, official)
    refused = answers(("gpu-loop.yml", "test", REFUSE), cases, official)
    for at, label, refuses in zip(cases, labels, refused, strict=True):
        if at.success:
            assert label == ("hosted" if refuses else "given")
        if label == "given":
            assert at["needs.start.outputs.stays"] == "true" or not at.again


def test_a_stop_always_gives_something_back(official: Official) -> None:
    """The handle's machine, the one that the watch has started, or both; never a kept machine that
    another run may have by now."""
    cases = list(of_step({"inputs.machine-name": TEXT, **RERUN}))
    first, again = (answers(("gpu-loop.yml", "stop", name), cases, official) for name in GIVE_BACK)
    for at, gives, gives_again in zip(cases, first, again, strict=True):
        assert gives or gives_again
        if at["inputs.machine-name"] and gives:
            assert not at.again or at["needs.start.outputs.attempt"] == ""


@pytest.mark.parametrize(
    ("where", "values", "wanted"),
    [
        (
            ("start", "outputs", "stays"),
            {"inputs.rerun-failed": (True, False), "inputs.timeout-minutes": (5, 300, 301)},
            lambda at: at["inputs.rerun-failed"] and at["inputs.timeout-minutes"] <= 300,
        ),
        (
            ("stop", "outputs", "cost"),
            {
                "steps.again.outputs.stopped": (None, "", "0", "1"),
                "steps.again.outputs.cost": (None, "", "2"),
                "steps.stop.outputs.cost": ("", "1"),
            },
            lambda at: (
                (at["steps.again.outputs.stopped"] == "1" and at["steps.again.outputs.cost"])
                or at["steps.stop.outputs.cost"]
            ),
        ),
    ],
    ids=lambda each: "|".join(each) if isinstance(each, tuple) else "",
)
def test_other_expressions_of_the_loop(
    where: tuple[str, ...], values: dict[str, Any], wanted: Any, official: Official
) -> None:
    """Each becomes what it is meant to, for every value of what it reads."""
    found: Any = jobs_of("gpu-loop.yml")
    for part in where:
        found = found[part]
    cases = [
        At(values=each, success=True, failure=False, cancelled=False)
        for each in combinations(values)
    ]
    assert value(found, cases, official) == [wanted(at) for at in cases]


@pytest.mark.parametrize("stays", ["true", "false"])
def test_the_watch_stays_where_it_is_needed(stays: str, official: Official) -> None:
    """To the GPU job's end where it shall fail with it, to its beginning where not."""
    steps = {step["name"]: step for step in jobs_of("gpu-loop.yml")["watch"]["steps"]}
    at = At(
        values={"needs.start.outputs.stays": stays}, success=True, failure=False, cancelled=False
    )
    wanted = "done" if stays == "true" else "picked-up"
    assert value(steps["Watch"]["with"]["until"], [at], official) == [wanted]


def test_the_attempt_is_that_of_the_start(official: Official) -> None:
    """Which is how the other jobs know that start was not run again."""
    start = jobs_of("gpu-loop.yml")["start"]
    cases = [
        At(values={"github.run_attempt": attempt}, success=True, failure=False, cancelled=False)
        for attempt in ATTEMPTS
    ]
    assert value(start["outputs"]["attempt"], cases, official) == [*ATTEMPTS]
