"""action.yml, the code and the README of each action say the same."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import pytest
import yaml
from tests.fakes import REPOSITORY
from tests.shown_defaults import is_in_form, shown_default

from gpu_ci import errors
from gpu_ci.errors import GpuCiError, SetupFailed
from gpu_ci.inputs.gate_inputs import GateInputs
from gpu_ci.inputs.reader import input_names, variable
from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs
from gpu_ci.inputs.start_inputs import StartInputs
from gpu_ci.inputs.stop_inputs import StopInputs
from gpu_ci.inputs.watchdog_inputs import WatchdogInputs
from gpu_ci.model.budget import Budget
from gpu_ci.profiles.keys import KEYS
from gpu_ci.profiles.schema import meaning
from gpu_ci.providers import PROVIDERS, provider_class
from gpu_ci.setup_uv.exports import MISLEADING, Exports
from gpu_ci.setup_uv.folders import Choosing, Folders
from gpu_ci.setup_uv.host import OF_THE_WORKFLOW, Host
from gpu_ci.start.preflight import NotWell
from gpu_ci.watchdog.report import Finding, Report
from gpu_ci.watchdog.waits import OURS as OUR_LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gpu_ci.providers.about import Secret

ROOT = Path(__file__).parents[1]
ALL = sorted(path.parent.name for path in ROOT.glob("action-*/action.yml"))
# The actions whose inputs are a dataclass, with the module that sets their outputs.
ACTIONS: dict[str, tuple[type[Any], str]] = {
    "action-gate": (GateInputs, "gate"),
    "action-setup-uv": (SetupUvInputs, "setup_uv"),
    "action-start": (StartInputs, "start"),
    "action-stop": (StopInputs, "stop"),
    "action-watchdog": (WatchdogInputs, "watchdog"),
}
REQUIRED: dict[str, list[str]] = {
    "action-gate": [],
    "action-setup-uv": [],
    "action-start": [],
    "action-stop": [],
    "action-watchdog": [],
}
PAGES = [
    ROOT / "README.md",
    *(ROOT / action / "README.md" for action in ALL),
    *(
        page
        for page in sorted(ROOT.glob("docs/**/*.md"))
        if "uses: org/gpu-ci/" in page.read_text()
    ),
]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.y*ml"))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
OURS = re.compile(r"\$/action-[\w-]+|\$/\.github/workflows/[\w-]+\.yml|\./.*")
CALLABLE = [path for path in WORKFLOWS if "workflow_call" in path.read_text()]
# What watchdog.yml does about the action's inputs that it does not take, and what it takes besides.
NOT_ASKED = {
    "scope": "repository",
    "github-token": "${{ secrets.github-token }}",
    "app-private-key": "${{ secrets.app-private-key }}",
    "cache-dir": "${{ inputs.cache && format('{0}/gpu-ci-watchdog', runner.temp) || '' }}",
}
# What is only of the scope run.
IN_A_RUN = {"until", "queued", "over"}
ASKED_BESIDES = ["runner", "cache", "aws-role", "aws-region"]


def metadata(action: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / action / "action.yml").read_text())
    return loaded


def step(action: str) -> dict[str, Any]:
    (only,) = metadata(action)["runs"]["steps"]
    found: dict[str, Any] = only
    return found


def table(action: str, title: str) -> list[list[str]]:
    """Return the cells of the first table under a title of the action's README, without its head."""
    text = (ROOT / action / "README.md").read_text()
    section = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    return cells[2:]


def one_line(text: str) -> str:
    return " ".join(str(text).split())


def code(text: str) -> str:
    return f"`{text}`" if text else ""


@pytest.mark.parametrize("action", ACTIONS)
def test_the_inputs_are_the_fields_of_the_code(action: str) -> None:
    """The same names in the same order: none is forgotten on either side."""
    assert list(metadata(action)["inputs"]) == input_names(ACTIONS[action][0])


@pytest.mark.parametrize("action", ALL)
def test_each_input_reaches_the_code_under_its_own_name(action: str) -> None:
    """Composite steps get no INPUT_ of their own: each is mapped, exactly and once."""
    mapped = {n: v for n, v in step(action)["env"].items() if n.startswith("INPUT_")}
    wanted = {variable(name): f"${{{{ inputs.{name} }}}}" for name in metadata(action)["inputs"]}
    assert mapped == wanted


def test_setting_uv_up_hears_what_the_workflow_itself_has_set() -> None:
    """Of what would mislead uv, only what the machine has left is emptied (pain 40)."""
    mapped = {n: v for n, v in step("action-setup-uv")["env"].items() if "INPUT_" not in n}
    assert mapped == {f"{OF_THE_WORKFLOW}{name}": f"${{{{ env.{name} }}}}" for name in MISLEADING}


def test_setting_uv_up_gets_no_token() -> None:
    """It runs beside the job's own code, and needs none."""
    text = (ROOT / "action-setup-uv" / "action.yml").read_text()
    assert re.findall(r"github\.token|secrets\.|github-token", text) == []


NEEDED = {
    "GITHUB_REPOSITORY": REPOSITORY,
    "GITHUB_RUN_ID": "7",
    "INPUT_PROVIDER": "local",
    "INPUT_GITHUB_TOKEN": "t",
}
EACH_INPUT = [(action, name) for action in ACTIONS for name in metadata(action)["inputs"]]
NOTHING = ("", (), None, 0, Budget())
# Where the code has a value that depends on the job, and the description says so in words.
OF_THE_JOB = [("action-setup-uv", "working-directory")]
# Where the story, not its reader, fills in what is left out.
IN_THE_STORY = {("action-watchdog", "labels"): OUR_LABELS}


@pytest.mark.parametrize("action", ACTIONS)
def test_the_defaults_are_those_of_the_code(action: str) -> None:
    """Whoever runs it from a terminal gets what a workflow gets."""
    inputs = ACTIONS[action][0]
    declared = {
        variable(name): in_a_terminal(str(spec.get("default", "")))
        for name, spec in metadata(action)["inputs"].items()
    }
    assert inputs.read({**declared, **NEEDED}) == inputs.read(NEEDED)


def in_a_terminal(default: str) -> str:
    return default.replace("${{ github.api_url }}", "https://api.github.com")


def value_of(inputs: Any, name: str) -> Any:
    """Return what was read of an input."""
    field = name.removesuffix("-minutes").replace("-", "_")
    if hasattr(inputs, field):
        return getattr(inputs, field)
    return getattr(inputs.github, field.removeprefix("github_"))


@pytest.mark.parametrize(("action", "name"), EACH_INPUT)
def test_the_default_that_is_shown_is_the_one_that_is_used(action: str, name: str) -> None:
    """No other value is shown, and none that the code has is kept back."""
    inputs = ACTIONS[action][0]
    shown = shown_default(metadata(action)["inputs"][name])
    used = value_of(inputs.read(NEEDED), name)
    written = inputs.read({**NEEDED, variable(name): in_a_terminal(shown)}) if shown else None
    if shown:
        assert value_of(written, name) == IN_THE_STORY.get((action, name), used)
    elif variable(name) not in NEEDED and (action, name) not in OF_THE_JOB:
        assert used in NOTHING


@pytest.mark.parametrize(("action", "name"), EACH_INPUT)
def test_a_default_is_shown_where_it_belongs(action: str, name: str) -> None:
    """At the end of the description, in one form, where `default:` has to be empty: a profile would
    never be asked for what is given already. Elsewhere in `default:`, where editors look."""
    spec = metadata(action)["inputs"][name]
    assert is_in_form(spec)
    if "profile" in metadata(action)["inputs"] and name in KEYS:
        assert spec["default"] == ""
    elif (action, name) not in IN_THE_STORY:
        assert shown_default(spec) == str(spec["default"])


@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_required_has_no_default(action: str) -> None:
    """Every other input can be left out."""
    inputs = metadata(action)["inputs"]
    assert [name for name, spec in inputs.items() if spec.get("required")] == REQUIRED[action]
    assert [name for name, spec in inputs.items() if "default" not in spec] == REQUIRED[action]


@pytest.mark.parametrize("action", ALL)
def test_the_step_becomes_python(action: str) -> None:
    """A cancel signals one process: with `exec` it is ours (clean-up never runs on cancel: pain 7).
    Nothing that a user wrote is spliced into the script."""
    entry = re.fullmatch(
        r'exec sh "\$GITHUB_ACTION_PATH/\.\./shared/run" "\$GITHUB_ACTION_PATH/(\w+\.py)"',
        step(action)["run"].strip(),
    )
    assert entry
    assert (ROOT / action / entry[1]).is_file()
    assert step(action)["shell"] == "bash"


@pytest.mark.parametrize("action", ALL)
def test_each_output_is_the_steps_own(action: str) -> None:
    """An output with another's value would go unnoticed."""
    values = {n: spec["value"] for n, spec in metadata(action).get("outputs", {}).items()}
    source = step(action)["id"]
    assert values == {name: f"${{{{ steps.{source}.outputs.{name} }}}}" for name in values}


@pytest.mark.parametrize("action", ACTIONS)
def test_the_outputs_are_those_that_the_code_sets(action: str) -> None:
    """None is promised and never set, none is set and cannot be read."""
    module = ROOT / "shared" / "gpu_ci" / ACTIONS[action][1] / "__init__.py"
    calls = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)]
    names = {
        ast.literal_eval(call.args[0])
        for call in calls
        if ast.unparse(call.func) == "workflow_commands.output"
    }
    assert set(metadata(action)["outputs"]) == names


def test_the_readme_has_every_field_of_the_watchdogs_report() -> None:
    """Of the whole and of a finding: programs read it."""
    text = (ROOT / "action-watchdog" / "README.md").read_text()
    (told,) = re.findall(r"^`report` is (.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    report = Report(scope="run", dry_run=False, actions_left=0)
    wanted = [*report.as_json(), *(field.name for field in fields(Finding))]
    assert sorted(re.findall(r"`(\w+)`", told)) == sorted(wanted)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_option_of_a_provider_has_a_default_and_a_meaning(provider: str) -> None:
    """Nobody has to give one, and the README has something to say of each."""
    options = provider_class(provider).Options
    assert [field.name for field in fields(options) if field.default is MISSING] == []
    assert [field.name for field in fields(options) if not meaning(options, field.name)] == []


def is_ours(found: type[Any]) -> TypeGuard[type[GpuCiError]]:
    return issubclass(found, GpuCiError)


def test_the_readme_has_every_exit_code() -> None:
    """With the names of the errors that have it; those without a name are the shell's."""
    found: list[type[Any]] = [
        NotWell,
        *(value for _, value in inspect.getmembers(errors, inspect.isclass)),
    ]
    groups = ("GpuCiError", "GitHubError", "CloudError", "StartFailed", "SetupFailed")
    codes: dict[str, set[str]] = {}
    for error in filter(is_ours, found):
        if error.__name__ not in groups:
            codes.setdefault(str(error.exit_code), set()).add(error.__name__)
    rows = {
        row[0]: set(re.findall(r"`(\w+)`", row[1])) for row in table("action-start", "Exit codes")
    }
    assert {number: names for number, names in rows.items() if names} == codes


def test_the_readme_of_setup_uv_has_the_exit_codes_of_its_own() -> None:
    """With the right numbers, and none of setting uv up is left out."""
    told = {row[1].strip("`"): int(row[0]) for row in code_rows()}
    assert told == {name: getattr(errors, name).exit_code for name in told}
    assert {each.__name__ for each in SetupFailed.__subclasses__()} <= set(told)


def code_rows() -> list[list[str]]:
    rows = (ROOT / "action-setup-uv" / "README.md").read_text().splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    return [row for row in cells if len(row) == 3 and row[0].isdigit() and "`" in row[1]]


OUR_UID = 7
KEPT = [
    *(f"{parent}/gpu-ci-uv-{OUR_UID}" for parent in ("/RUNNER_TOOL_CACHE", "/var/tmp", "/tmp")),
    "/RUNNER_TEMP/gpu-ci-uv",
]


def tried_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Yield the folders that are tried for each thing, when only the last one will do.

    A variable `X` of the job is `/X` then, an input `x` is `/x`, and the home is `/~`.
    """
    tried: list[str] = []

    def refusal(folder: Path, uid: int) -> str:
        assert uid == OUR_UID
        tried.append(str(folder))
        return "" if folder.is_relative_to("/RUNNER_TEMP") else "is refused"

    for name in ("refusal", "cache_refusal"):
        monkeypatch.setattr(f"gpu_ci.setup_uv.folders.{name}", refusal)
    monkeypatch.setattr("gpu_ci.setup_uv.folders.is_networked", lambda _folder: False)
    choosing(tmp_path).folders()
    while tried:
        end = next(at for at, folder in enumerate(tried) if folder.startswith("/RUNNER_TEMP/"))
        yield tried[: end + 1]
        del tried[: end + 1]


def choosing(workspace: Path) -> Choosing:
    asked = ("cache-local-path", "tool-dir", "tool-bin-dir")
    inputs = {variable(name): f"/{name}" for name in asked}
    named = ("UV_CACHE_DIR", "UV_PYTHON_INSTALL_DIR", "UV_TOOL_DIR", "UV_TOOL_BIN_DIR")
    others = ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_BIN_HOME", "RUNNER_TOOL_CACHE", "RUNNER_TEMP")
    host = Host(
        uid=OUR_UID,
        home=Path("/~"),
        home_is_new=False,
        machine="x86_64",
        libc="gnu",
        job={name: f"/{name}" for name in (*named, *others)},
        own={},
    )
    read = SetupUvInputs.read({**inputs, "GITHUB_WORKSPACE": str(workspace)})
    return Choosing(inputs=read, host=host)


def told_folders(cell: str) -> list[str]:
    """Return the folders of a cell, spelled as `tried_for` does."""
    first, _, below = cell.partition("KEPT`")
    named = [each.replace("$", "") for each in re.findall(r"`([^`]+)`", first)]
    return [f"/{each}" for each in named] + [f"{each}{below.strip('`')}" for each in KEPT]


def test_the_readme_of_setup_uv_has_every_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the order in which they are tried (pain 34)."""
    cache, own, pythons, tools, programs, *_ = tried_for(monkeypatch, tmp_path)
    mine = (
        f"gpu-ci-uv-{OUR_UID}"  # in a folder of another user's that can be written: told in words
    )
    cache = [each for each in cache if Path(each).name != mine]
    wanted = [cache, pythons, tools, programs, own]
    told = table("action-setup-uv", "Where things are kept")
    assert [told_folders(row[2]) for row in told if "KEPT" in row[2]] == wanted


def test_the_readme_of_setup_uv_has_what_is_exported(tmp_path: Path) -> None:
    """The variable of each folder, and what is emptied of the environment."""
    rows = table("action-setup-uv", "Where things are kept")
    told = [row[1].split("`")[1] for row in rows if row[1].startswith("`")]
    exports = Exports(host=choosing(tmp_path).host)
    exports.add_folders(any_folders())
    assert told == list(exports.variables)
    emptied = table("action-setup-uv", "What is set and emptied for later steps")[-1][0]
    assert re.findall(r"`(\w+)`", emptied) == list(MISLEADING)


def any_folders() -> Folders:
    here = Path("/x")
    return Folders(
        cache=here,
        pythons=here,
        tools=here,
        tool_bin=here,
        bin=here,
        uvs=here,
        cache_is_kept=True,
        cache_was_there=True,
        copies=False,
    )


def test_what_is_called_the_same_as_elsewhere_is_an_input() -> None:
    """A line of the popular action can be swapped for ours."""
    first, *_ = table("action-setup-uv", "Coming from astral-sh/setup-uv")
    assert set(re.findall(r"`([\w-]+)`", first[0])) <= set(metadata("action-setup-uv")["inputs"])


def used(loaded: object) -> list[str]:
    """Return every `uses:` of a workflow or an action."""
    match loaded:
        case dict():
            own = [loaded["uses"]] if isinstance(loaded.get("uses"), str) else []
            return own + [found for value in loaded.values() for found in used(value)]
        case list():
            return [found for value in loaded for found in used(value)]
        case _:
            return []


def unpinned(text: str) -> list[str]:
    return [
        name
        for name in used(yaml.safe_load(text))
        if not PINNED.fullmatch(name) and not OURS.fullmatch(name)
    ]


@pytest.mark.parametrize(
    "path",
    [*WORKFLOWS, *(ROOT / action / "action.yml" for action in ALL)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_what_others_wrote_is_pinned(path: Path) -> None:
    """A tag can be moved to other code; a hash cannot."""
    assert unpinned(path.read_text()) == []


def test_the_check_of_pins_finds_what_is_not_pinned() -> None:
    """In steps and in called workflows."""
    sha = "0123456789" * 4
    text = f"""
    jobs:
      a: {{uses: octo/x/.github/workflows/y.yml@v1}}
      b:
        steps:
          - uses: actions/checkout@v6
          - uses: actions/checkout@{sha}
          - uses: $/action-start
          - run: echo
    """
    assert unpinned(text) == ["octo/x/.github/workflows/y.yml@v1", "actions/checkout@v6"]


def test_a_callable_workflow_names_nothing_of_its_caller() -> None:
    """`./` in a workflow that others call means the caller's repository (pain 42)."""
    local = {
        p.name: [u for u in used(yaml.safe_load(p.read_text())) if u.startswith("./")]
        for p in CALLABLE
    }
    assert {name: found for name, found in local.items() if found} == {}


@pytest.mark.parametrize("action", ALL)
def test_an_action_says_what_it_is(action: str) -> None:
    """Name, description and a README with an example that names the action."""
    assert metadata(action)["name"].startswith("gpu-ci ")
    assert metadata(action)["description"].endswith(".")
    text = (ROOT / action / "README.md").read_text()
    assert f"uses: org/gpu-ci/{action}@v1" in text


def examples(page: Path) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_of_a_page_are_true(page: Path) -> None:
    """They are YAML, and give our actions only inputs that exist, and all that must be given."""
    loaded = [yaml.safe_load(each) for each in examples(page)]
    steps = [found for each in loaded for found in our_steps(each)]
    assert steps or [call for each in loaded for call in our_calls(each)]
    for name, given in steps:
        assert set(given) <= set(metadata(name)["inputs"])
        assert set(given) >= set(REQUIRED[name])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_call_our_workflows_as_they_are(page: Path) -> None:
    """With inputs and secrets that exist, and every permission that GitHub would refuse to miss."""
    for text in examples(page):
        for name, call in our_calls(yaml.safe_load(text)):
            assert set(call.get("with", {})) <= set(called(name)["inputs"])
            assert set(call.get("secrets", {})) <= set(called(name).get("secrets", {}))
            assert call["permissions"] == asked_permissions(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_have_the_secrets_of_their_provider(page: Path) -> None:
    """A pasted stop without the key that its cloud needs leaves a machine billed."""
    for loaded in map(yaml.safe_load, examples(page)):
        for each in users(loaded, "org/gpu-ci/action-"):
            for name, _ in required_secrets(each):
                assert each["env"][name] == f"${{{{ secrets.{name} }}}}"
        for _, call in our_calls(loaded):
            for name, secret in required_secrets(call):
                assert call["secrets"][secret.taken_as] == f"${{{{ secrets.{name} }}}}"


# The tutorial's workflow runs in the demo, which has no AWS.
IN_EARNEST = [page for page in PAGES if page.name != "tutorial.md"]


@pytest.mark.parametrize("page", IN_EARNEST, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_log_in_where_they_use_ec2(page: Path) -> None:
    """A call by its role; a job of a whole workflow by a step before, with the right to do so."""
    for loaded in map(yaml.safe_load, examples(page)):
        for _, call in our_calls(loaded):
            if "ec2" in named_providers(call):
                assert "aws-role" in call["with"]
        for job in jobs_of(loaded.get("jobs") if isinstance(loaded, dict) else None):
            uses = ["ec2" in named_providers(each) for each in job["steps"]]
            if any(uses):
                before = str(job["steps"][: uses.index(True)])
                assert "aws-actions/configure-aws-credentials@" in before
                assert job["permissions"]["id-token"] == "write"


def named_providers(user: Mapping[str, Any]) -> list[str]:
    """Return the providers that a step or a call names itself."""
    given = user.get("with", {})
    named = re.split(r"[,\s]+", f"{given.get('provider', '')} {given.get('providers', '')}")
    return [each for each in named if each in PROVIDERS]


def required_secrets(user: Mapping[str, Any]) -> list[tuple[str, Secret]]:
    """Return the secrets, by their variables, without which a step or a call can ask no cloud."""
    found = [pair for each in named_providers(user) for pair in PROVIDERS[each].secrets.items()]
    return [(name, secret) for name, secret in found if secret.required]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_examples_let_the_watchdog_work(page: Path) -> None:
    """It may cancel, and is not ended itself before the wait that it looks at."""
    for text in examples(page):
        for job in jobs_of(yaml.safe_load(text)):
            for given in [given for name, given in our_steps(job) if name == "action-watchdog"]:
                assert job["permissions"]["actions"] == "write"
                wait = 15 if given.get("scope") == "repository" else 16
                assert job["timeout-minutes"] >= wait


def test_the_check_of_calls_finds_them() -> None:
    """At any depth, and apart from the steps."""
    text = """
    jobs:
      a: {uses: org/gpu-ci/.github/workflows/watchdog.yml@v1, with: {queue-minutes: 5}}
      b: {steps: [{uses: org/gpu-ci/action-watchdog@v1}]}
    """
    assert [(name, call["with"]) for name, call in our_calls(yaml.safe_load(text))] == [
        ("watchdog.yml", {"queue-minutes": 5})
    ]
    assert our_steps(yaml.safe_load(text)) == [("action-watchdog", {})]


def test_the_workflows_of_the_pages_are_workflows(tmp_path: Path) -> None:
    """Whoever pastes one gets no word from actionlint."""
    files = []
    for page in PAGES:
        for number, text in enumerate(each for each in examples(page) if "\njobs:\n" in each):
            name = str(page.relative_to(ROOT)).replace("/", "-")
            files.append(tmp_path / f"{name}-{number}.yml")
            files[-1].write_text(text)
    assert len(files) > 10
    done = subprocess.run(
        ["actionlint", *files], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def our_steps(loaded: object) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and the inputs of every step that uses an action of this repository."""
    found = users(loaded, "org/gpu-ci/action-")
    return [(each["uses"].split("/")[2].partition("@")[0], each.get("with", {})) for each in found]


def jobs_of(loaded: object) -> list[dict[str, Any]]:
    """Return every job with steps, of a workflow or of a part of one."""
    match loaded:
        case {"steps": list()} if isinstance(loaded, dict):
            return [loaded]
        case dict():
            return [found for value in loaded.values() for found in jobs_of(value)]
        case _:
            return []


def our_calls(loaded: object) -> list[tuple[str, dict[str, Any]]]:
    """Return every job that calls a workflow of this repository, with the file's name."""
    found = users(loaded, "org/gpu-ci/.github/workflows/")
    return [(each["uses"].split("/")[4].partition("@")[0], each) for each in found]


def users(loaded: object, prefix: str) -> list[dict[str, Any]]:
    """Return every mapping whose `uses` begins so."""
    match loaded:
        case {"uses": str(name)} if isinstance(loaded, dict) and name.startswith(prefix):
            return [loaded]
        case dict():
            return [found for value in loaded.values() for found in users(value, prefix)]
        case list():
            return [found for value in loaded for found in users(value, prefix)]
        case _:
            return []


def workflow(name: str) -> dict[str, Any]:
    # YAML 1.1 takes the word `on` for true.
    text = (ROOT / ".github" / "workflows" / name).read_text().replace("\non:\n", '\n"on":\n')
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def called(name: str) -> dict[str, Any]:
    """Return what a workflow of ours tells its callers: inputs, secrets, outputs."""
    found: dict[str, Any] = workflow(name)["on"]["workflow_call"]
    return found


def asked_permissions(name: str) -> dict[str, str]:
    """Return what the caller must grant: of each right the most that a job of it asks for."""
    jobs = workflow(name)["jobs"].values()
    asked = [right for job in jobs for right in job["permissions"].items()]
    return {scope: "write" if (scope, "write") in asked else level for scope, level in asked}


def watchdog_pass() -> dict[str, Any]:
    """Return the one job of watchdog.yml."""
    (job,) = workflow("watchdog.yml")["jobs"].values()
    found: dict[str, Any] = job
    return found


def watchdog_step(job_step: str) -> dict[str, Any]:
    found: dict[str, Any] = next(s for s in watchdog_pass()["steps"] if s["name"] == job_step)
    return found


def test_the_watchdogs_workflow_asks_what_the_action_asks() -> None:
    """The same names in the same order, with the same defaults, and what only a workflow can."""
    inputs, asked = metadata("action-watchdog")["inputs"], called("watchdog.yml")["inputs"]
    taken = [name for name in inputs if name not in {*NOT_ASKED, *IN_A_RUN}]
    assert list(asked) == [*ASKED_BESIDES, *taken]
    assert {name: str(asked[name]["default"]).lower() for name in taken} == {
        name: inputs[name]["default"].lower() for name in taken
    }


def test_every_input_of_the_watchdogs_workflow_reaches_the_action() -> None:
    """Under its own name; what the workflow alone takes, and each secret, is used in its job."""
    inputs = metadata("action-watchdog")["inputs"]
    assert watchdog_step("Watch")["with"] == {
        name: NOT_ASKED.get(name, f"${{{{ inputs.{name} }}}}")
        for name in inputs
        if name not in IN_A_RUN
    }
    mentioned = str(watchdog_pass())
    secrets = called("watchdog.yml")["secrets"]
    wanted = [f"inputs.{n}" for n in ASKED_BESIDES] + [f"secrets.{n}" for n in secrets]
    assert [each for each in wanted if not re.search(rf"{each}(?![\w-])", mentioned)] == []


def test_the_watchdogs_workflow_hands_out_the_actions_outputs() -> None:
    """Each of them, through the job, unmixed."""
    outputs = [name for name in metadata("action-watchdog")["outputs"] if name not in IN_A_RUN]
    told = called("watchdog.yml")["outputs"]
    assert {name: spec["value"] for name, spec in told.items()} == {
        name: f"${{{{ jobs.pass.outputs.{name} }}}}" for name in outputs
    }
    assert watchdog_pass()["outputs"] == {
        name: f"${{{{ steps.watchdog.outputs.{name} }}}}" for name in outputs
    }


def test_the_watchdog_queues_behind_nothing() -> None:
    """A pass that waits for a stuck one is how a watchdog dies, and each has a limit (pain 4)."""
    assert list(workflow("watchdog.yml")["on"]) == ["workflow_call"]
    assert not {"concurrency"} & {*workflow("watchdog.yml"), *watchdog_pass()}
    assert watchdog_pass()["timeout-minutes"] == 15


@pytest.mark.parametrize(
    ("given", "state", "steps"),
    [
        ({}, "success", ["Fetch what the last pass kept", "Watch", "Keep what was read"]),
        ({"inputs.cache": False}, "success", ["Watch"]),
        ({"inputs.cache": False, "inputs.aws-role": "r"}, "success", ["Log in to AWS", "Watch"]),
        ({}, "failure", ["Watch", "Keep what was read"]),
        ({"inputs.cache": False, "inputs.aws-role": "r"}, "failure", ["Watch"]),
        ({"inputs.aws-role": "r"}, "cancelled", []),
    ],
)
def test_the_steps_of_the_watchdogs_workflow_run_when_they_should(
    given: dict[str, Any], state: str, steps: list[str]
) -> None:
    """`state` is the job's before the step: what failed keeps nobody from watching the queue."""
    known = {**defaults(), **given}
    run = [each["name"] for each in watchdog_pass()["steps"] if would_run(each, known, state)]
    assert run == steps


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({}, "cache-dir", "/tmp/gpu-ci-watchdog"),
        ({"inputs.cache": False}, "cache-dir", ""),
        ({"secrets.aws-access-key-id": "stored"}, "AWS_ACCESS_KEY_ID", "stored"),
        (
            {"secrets.aws-access-key-id": "stored", "env.AWS_ACCESS_KEY_ID": "of the role"},
            "AWS_ACCESS_KEY_ID",
            "of the role",
        ),
        (
            {"secrets.aws-secret-access-key": "stored", "env.AWS_SECRET_ACCESS_KEY": "of the role"},
            "AWS_SECRET_ACCESS_KEY",
            "of the role",
        ),
        ({}, "AWS_SECRET_ACCESS_KEY", ""),
    ],
)
def test_the_watchdogs_workflow_fills_in_what_is_meant(
    given: dict[str, Any], name: str, value: str
) -> None:
    """A folder where a cache is wanted, and a role's credentials before stored ones."""
    known = {**defaults(), "runner.temp": "/tmp", **given}
    values = watchdog_step("Watch")["with"] | watchdog_step("Watch")["env"]
    assert (evaluate(values[name], known, "success") or "") == value


def the_gate() -> dict[str, Any]:
    """Return the one job of gate.yml."""
    (job,) = workflow("gate.yml")["jobs"].values()
    found: dict[str, Any] = job
    return found


def test_the_gates_workflow_asks_what_the_action_asks() -> None:
    """The same names in the same order, with the same words and defaults, and the runner; each
    reaches the action under its own name."""
    inputs, asked = metadata("action-gate")["inputs"], called("gate.yml")["inputs"]
    assert list(asked) == ["runner", *inputs]
    for name, spec in inputs.items():
        assert one_line(asked[name]["description"]) == one_line(spec["description"])
        assert str(asked[name]["default"]).lower() == spec["default"].lower()
    (only,) = the_gate()["steps"]
    assert only["with"] == {name: f"${{{{ inputs.{name} }}}}" for name in inputs}


def test_the_gates_workflow_hands_out_the_actions_outputs() -> None:
    """Each of them, through the job, unmixed, in the same words."""
    outputs, told = metadata("action-gate")["outputs"], called("gate.yml")["outputs"]
    assert {
        name: (one_line(spec["description"]), spec["value"]) for name, spec in told.items()
    } == {
        name: (one_line(spec["description"]), f"${{{{ jobs.gate.outputs.{name} }}}}")
        for name, spec in outputs.items()
    }
    assert the_gate()["outputs"] == {
        name: f"${{{{ steps.gate.outputs.{name} }}}}" for name in outputs
    }


def test_the_gate_gets_no_secret() -> None:
    """The job's own token is enough, with two rights; nothing that a user stores comes near what a
    stranger's event has begun (pain 47)."""
    assert "secrets" not in called("gate.yml")
    assert asked_permissions("gate.yml") == {"contents": "read", "pull-requests": "write"}
    for path in (".github/workflows/gate.yml", "action-gate/action.yml"):
        assert "secrets." not in (ROOT / path).read_text()
    own = {n: v for n, v in step("action-gate")["env"].items() if not n.startswith("INPUT_")}
    assert own == {
        "GPU_CI_CHECK_RUN_ID": "${{ job.check_run_id }}",
        "GPU_CI_RUN_TOKEN": "${{ github.token }}",
    }


def test_the_gate_waits_for_nobody() -> None:
    """It has no concurrency group, in which an answer could be lost, and a limit (pain 46)."""
    assert list(workflow("gate.yml")["on"]) == ["workflow_call"]
    assert not {"concurrency"} & {*workflow("gate.yml"), *the_gate()}
    assert the_gate()["timeout-minutes"] == 10


def defaults() -> dict[str, Any]:
    asked = called("watchdog.yml")["inputs"]
    return {f"inputs.{name}": spec["default"] for name, spec in asked.items()}


def would_run(job_step: dict[str, Any], known: Mapping[str, Any], state: str) -> bool:
    """Say whether a step runs; GitHub puts `success()` before a condition that asks no state."""
    condition = str(job_step.get("if", "true")).removeprefix("${{").removesuffix("}}")
    if not re.search(r"\b(success|failure|cancelled|always)\(\)", condition):
        condition = f"success() && ({condition})"
    return bool(evaluate(condition, known, state))


def evaluate(expression: str, known: Mapping[str, Any], state: str) -> Any:
    """Return what an expression of GitHub's is worth: names, strings, `!`, `&&`, `||`, `!=`."""
    text = expression.strip().removeprefix("${{").removesuffix("}}").strip()
    text = re.sub(r"\b(inputs|secrets|env|github|runner)\.[\w-]+", r"known.get('\g<0>')", text)
    text = re.sub(r"!(?!=)", " not ", text).replace("&&", " and ").replace("||", " or ")
    functions = {
        "success": lambda: state == "success",
        "cancelled": lambda: state == "cancelled",
        "format": str.format,
    }
    return eval(text, {"known": known, "true": True, **functions})
