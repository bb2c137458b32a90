"""The callable workflows: what goes in arrives, what comes out is there, and no caller has to give more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.shown_defaults import is_in_form, shown_default

from gpu_ci.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Iterator

# How a step gets at a cloud without a stored key: the action that logs in, and our input for it.
LOGINS = {"ec2": ("aws-actions/configure-aws-credentials@", "role-to-assume", "aws-role")}
SECRETS = [each.secrets for each in PROVIDERS.values()]
# The secrets with which a step asks GitHub, whatever its provider.
OF_GITHUB = ("github-token", "app-private-key")
ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
NAMES = sorted(p.name for p in FOLDER.glob("*.yml") if "workflow_call" in p.read_text())
STEP = "$/action-"
CALL = "$/.github/workflows/"
RIGHTS = {"none": 0, "read": 1, "write": 2}


def workflow(name: str) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load((FOLDER / name).read_text())
    return loaded


def called(name: str) -> dict[str, Any]:
    """Return what a workflow says of its callers; YAML 1.1 reads `on` as true."""
    found: dict[str, Any] = workflow(name)[True]["workflow_call"]
    return found


def jobs(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = workflow(name)["jobs"]
    return found


def used() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Yield each use of our own: the file, its job, the action or workflow, and what it is given."""
    for name in NAMES:
        for job_id, job in jobs(name).items():
            for each in [job, *job.get("steps", [])]:
                if str(each.get("uses", "")).startswith("$/"):
                    yield name, job_id, each["uses"], each.get("with") or {}


USED = list(used())


def asked(uses: str) -> dict[str, Any]:
    """Return the inputs of one of our actions or workflows."""
    if uses.startswith(CALL):
        return dict(called(uses.removeprefix(CALL))["inputs"])
    action = yaml.safe_load((ROOT / uses.removeprefix("$/") / "action.yml").read_text())
    return dict(action["inputs"])


def test_there_is_something_to_look_at() -> None:
    """The workflows and their uses are found."""
    assert {"gate.yml", "gpu-job.yml", "gpu-loop.yml", "gpu-start.yml", "gpu-stop.yml"} <= {*NAMES}
    assert {uses for _, _, uses, _ in USED} >= {
        f"{STEP}start",
        f"{STEP}stop",
        f"{CALL}gpu-loop.yml",
    }
    asking = {"gpu-loop.yml", "gpu-start.yml", "gpu-stop.yml", "watchdog.yml"}
    assert {name for name, _, _ in AT_CLOUDS} == asking


@pytest.mark.parametrize(("name", "job", "uses", "given"), USED)
def test_only_what_is_asked_for_is_given(
    name: str, job: str, uses: str, given: dict[str, Any]
) -> None:
    """GitHub warns of an unknown input of an action, and refuses the whole file for one of a workflow."""
    assert set(given) - set(asked(uses)) == set()


@pytest.mark.parametrize(("name", "job", "uses", "given"), USED)
def test_what_bears_the_same_name_is_passed_on(
    name: str, job: str, uses: str, given: dict[str, Any]
) -> None:
    """An input that a caller sets and that is lost on the way is a machine of the wrong kind."""
    shared = set(called(name)["inputs"]) & set(asked(uses)) - MEANT_OTHERWISE.get(
        (name, uses), set()
    )
    assert shared - set(given) == set()
    for each in shared:
        assert re.search(rf"(inputs|needs\.gate\.outputs)\.{each}\b", str(given[each])), each


@pytest.mark.parametrize(("name", "job", "uses", "given"), USED)
def test_the_same_default_is_shown_on_the_way(
    name: str, job: str, uses: str, given: dict[str, Any]
) -> None:
    """Of an input that a workflow passes on, as of the one that it reaches."""
    own, theirs = called(name)["inputs"], asked(uses)
    apart = MEANT_OTHERWISE.get((name, uses), set()) | ITS_OWN_DEFAULT.get((name, uses), set())
    shared = set(own) & set(theirs) - apart
    assert {each: shown_default(own[each]) for each in shared} == {
        each: shown_default(theirs[each]) for each in shared
    }


@pytest.mark.parametrize("name", NAMES)
def test_what_a_workflow_fills_in_itself_is_shown(name: str) -> None:
    """An expression with a value for an input that is left out says what the description says."""
    text = (FOLDER / name).read_text()
    for each, value in re.findall(r"\binputs\.([\w-]+) \|\| '([^']+)' \}\}", text):
        assert shown_default(called(name)["inputs"][each]) == value
    assert [each for each, spec in called(name)["inputs"].items() if not is_in_form(spec)] == []


# What bears the same name and means another thing: a watch in a run asks with the job's own token and
# knows no cloud, and a stop looks for what the handle or the key names, wherever it is.
MEANT_OTHERWISE = {
    ("gpu-loop.yml", "$/action-watchdog"): {
        "app-id", "organization", "provider-options", "machine-name", "region", "queue-minutes",
    },
    ("gpu-loop.yml", "$/action-start"): {"key"},  # of the machine that is started again
    ("gpu-loop.yml", "$/action-stop"): {"key", "region"},
}  # fmt: skip
# The repository's folder is the workspace there: the same place, by another name.
ITS_OWN_DEFAULT = {("gpu-loop.yml", "$/action-setup-uv"): {"working-directory"}}


@pytest.mark.parametrize("name", NAMES)
def test_every_input_and_secret_is_used(name: str) -> None:
    """One that nothing reads would be a promise."""
    text = str(jobs(name)) + str(workflow(name).get("concurrency", ""))
    told = called(name)
    wanted = [f"inputs.{each}" for each in told.get("inputs", {})]
    wanted += [f"secrets.{each}" for each in told.get("secrets", {})]
    assert [each for each in wanted if not re.search(rf"{each}(?![\w-])", text)] == []


def at_clouds() -> Iterator[tuple[str, str, int]]:
    """Yield each step that asks a cloud something: the file, its job, and the step's place in it.

    A start and a stop always do, a watchdog where it is given providers.
    """
    for name in NAMES:
        for job_id, job in jobs(name).items():
            for place, step in enumerate(job.get("steps", [])):
                uses, given = step.get("uses"), step.get("with") or {}
                if uses in {f"{STEP}start", f"{STEP}stop"} or (
                    uses == f"{STEP}watchdog" and "providers" in given
                ):
                    yield name, job_id, place


AT_CLOUDS = list(at_clouds())
# gpu-job.yml has them through gpu-loop.yml.
ASKING_FOR_SECRETS = sorted({name for name, _, _ in AT_CLOUDS} | {"gpu-job.yml"})


def filled_in(variable: str) -> str:
    """Return what a step has for a variable; what a login has set comes before what is stored."""
    secret = next(each[variable] for each in SECRETS if variable in each)
    stored = f"secrets.{secret.taken_as}"
    return f"${{{{ {stored if secret.required else f'env.{variable} || {stored}'} }}}}"


@pytest.mark.parametrize(("name", "job", "place"), AT_CLOUDS)
def test_a_step_that_asks_a_cloud_has_the_secrets_of_each(name: str, job: str, place: int) -> None:
    """Only the run knows which cloud it is, and a stop without its key leaves a machine billed."""
    step = jobs(name)[job]["steps"][place]
    taken = [v for each in SECRETS for v, secret in each.items() if secret.taken_as]
    found = {variable: step.get("env", {}).get(variable) for variable in taken}
    assert found == {variable: filled_in(variable) for variable in taken}


@pytest.mark.parametrize(("name", "job", "place"), AT_CLOUDS)
def test_a_step_that_asks_a_cloud_may_ask_github(name: str, job: str, place: int) -> None:
    """By the token or the App that its caller gives."""
    given = jobs(name)[job]["steps"][place]["with"]
    assert {each: given.get(each) for each in OF_GITHUB} == {
        each: f"${{{{ secrets.{each} }}}}" for each in OF_GITHUB
    }


@pytest.mark.parametrize("provider", LOGINS)
@pytest.mark.parametrize(("name", "job", "place"), AT_CLOUDS)
def test_a_step_that_asks_a_cloud_is_logged_in(
    name: str, job: str, place: int, provider: str
) -> None:
    """By an earlier step of its job, with the right to a token for it. That one runs where there is
    a role, unless the job asks no cloud at all."""
    action, parameter, asked_as = LOGINS[provider]
    steps = jobs(name)[job]["steps"]
    (login,) = [step for step in steps[:place] if str(step.get("uses", "")).startswith(action)]
    first = next(at for where, of, at in AT_CLOUDS if (where, of) == (name, job))
    condition, *more = login["if"].split(" && ")
    assert condition == f"inputs.{asked_as} != ''"
    assert more in ([], [steps[first].get("if")])
    assert login["with"][parameter] == f"${{{{ inputs.{asked_as} }}}}"
    assert jobs(name)[job]["permissions"]["id-token"] == "write"


def test_every_login_is_known() -> None:
    """A provider whose stored keys can be left out has one instead."""
    assert set(LOGINS) == {
        provider
        for provider in PROVIDERS
        if any(each.taken_as and not each.required for each in PROVIDERS[provider].secrets.values())
    }


@pytest.mark.parametrize("name", ASKING_FOR_SECRETS)
def test_the_secrets_of_each_cloud_can_be_given(name: str) -> None:
    """None has to be: a caller gives those of one cloud."""
    taken = {secret.taken_as for each in SECRETS for secret in each.values()} - {""}
    asked_secrets = called(name)["secrets"]
    assert set(asked_secrets) == {*OF_GITHUB, *taken}
    assert [each for each, spec in asked_secrets.items() if spec["required"]] == []


CALLS = [(name, job) for name, job, uses, _ in USED if uses.startswith(CALL)]


@pytest.mark.parametrize(("name", "job"), CALLS)
def test_every_secret_is_passed_on(name: str, job: str) -> None:
    """From one of our workflows to the next, each under its own name."""
    call = jobs(name)[job]
    taken = called(call["uses"].removeprefix(CALL)).get("secrets", {})
    assert call.get("secrets", {}) == {each: f"${{{{ secrets.{each} }}}}" for each in taken}


@pytest.mark.parametrize("name", NAMES)
def test_every_output_is_one_of_a_job(name: str) -> None:
    """And that job's is one of a step or of a called workflow."""
    for spec in called(name).get("outputs", {}).values():
        job, output = re.fullmatch(
            r"\$\{\{ jobs\.([\w-]+)\.outputs\.([\w-]+) \}\}", spec["value"]
        ).groups()  # type: ignore[union-attr]  # None fails as well
        found = jobs(name)[job]
        outputs = (
            called(found["uses"].removeprefix(CALL))["outputs"]
            if "uses" in found
            else found["outputs"]
        )
        assert output in outputs


@pytest.mark.parametrize("name", NAMES)
def test_outputs_of_steps_are_outputs_of_their_actions(name: str) -> None:
    """A name that the action does not set would be empty for ever."""
    for job in jobs(name).values():
        uses = {s["id"]: s["uses"] for s in job.get("steps", []) if "id" in s and "uses" in s}
        for step, output in re.findall(r"steps\.([\w-]+)\.outputs\.([\w-]+)", str(job)):
            if uses[step].startswith(STEP):
                action = ROOT / uses[step].removeprefix("$/") / "action.yml"
                assert output in yaml.safe_load(action.read_text())["outputs"], (step, output)


def test_what_is_asked_in_several_files_is_said_alike() -> None:
    """The same description, type and default, so that a user learns it once."""
    seen: dict[str, Any] = {}
    for name in [each for each in NAMES if each.startswith("gpu-")]:
        for each, spec in called(name)["inputs"].items():
            if each not in ALIKE_NOT:
                assert seen.setdefault(each, spec) == spec, (name, each)


# Of a stop it is where to look, of a start where the machine is wanted.
ALIKE_NOT = {"region"}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_asks_for_more_rights_than_its_caller_has(name: str) -> None:
    """GitHub refuses to begin a run in which a called job wants more than the calling one."""
    assert workflow(name)["permissions"] == {}
    for job in jobs(name).values():
        rights = job["permissions"]
        for inner in jobs(job["uses"].removeprefix(CALL)).values() if "uses" in job else ():
            for right, level in inner["permissions"].items():
                assert RIGHTS[rights.get(right, "none")] >= RIGHTS[level], right


@pytest.mark.parametrize("name", NAMES)
def test_every_job_ends_by_itself(name: str) -> None:
    """A job of a called workflow that hangs is the caller's bill."""
    for job_id, job in jobs(name).items():
        assert "uses" in job or "timeout-minutes" in job, job_id


@pytest.mark.parametrize("name", NAMES)
def test_no_path_of_the_callers_is_used(name: str) -> None:
    """`./` would be the caller's repository (pain 42)."""
    assert re.findall(r"uses:\s*\./", (FOLDER / name).read_text()) == []
