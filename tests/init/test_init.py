"""`gpu-ci init`: what it asks, what it writes, what it leaves alone, and what it says is next."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.init.conftest import PROFILES, WORKFLOW, Checkout, checkout_in

from gpu_ci import cli
from gpu_ci.errors import AlreadyThere, BadInputs
from gpu_ci.init.file_texts import profiles_text
from gpu_ci.profiles.read_profile import read
from gpu_ci.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
MARKED = '[tool.pytest.ini_options]\nmarkers = ["slow: s", "gpu: needs one"]\n'


def loaded(workflow: str) -> dict[str, Any]:
    # YAML 1.1 takes the word `on` for true.
    made: dict[str, Any] = yaml.safe_load(workflow.replace("\non:\n", '\n"on":\n'))
    return made


def test_a_terminal_is_asked_three_things(checkout: Checkout) -> None:
    """Provider, machine and test command, each with a proposal that Enter takes."""
    checkout.put("pyproject.toml", MARKED)
    checkout.init(answers=["jarvislabs", "A100, L4", ""])
    assert checkout.asked == [
        "Provider (ec2, jarvislabs, local) [ec2]: ",
        "Machine types, best first [L4]: ",
        "Test command, run on the machine [uv run pytest -m gpu]: ",
    ]
    values = read(checkout.profiles.encode(), "a100", PROFILES)
    assert values == {"provider": "jarvislabs", "machine": "A100\nL4"}
    job = loaded(checkout.workflow)["jobs"]["gpu"]
    assert job["with"] == {"profile": "a100", "run": "uv run pytest -m gpu"}


def test_the_workflow_can_be_started_by_hand(checkout: Checkout) -> None:
    """That is the gate's cure for a fork's pull request and for another branch."""
    checkout.init(yes=True)
    assert "workflow_dispatch" in loaded(checkout.workflow)["on"]


def test_flags_are_not_asked_for(checkout: Checkout) -> None:
    """With all of them nothing is asked, and no terminal is needed."""
    checkout.init(
        provider="ec2", machine="g5.xlarge", profile="big", python="3.10", run="make gpu: all"
    )
    values = read(checkout.profiles.encode(), "big", PROFILES)
    assert values == {"provider": "ec2", "machine": "g5.xlarge", "region": "us-east-1"}
    assert loaded(checkout.workflow)["jobs"]["gpu"]["with"] == {
        "profile": "big",
        "run": "make gpu: all",
        "python-version": "3.10",
    }


def test_without_a_terminal_the_missing_flags_are_named(checkout: Checkout) -> None:
    """One sentence with all of them and what would be proposed; nothing is written."""
    with pytest.raises(BadInputs) as caught:
        checkout.init(machine="A100", env={"JL_API_KEY": "x"})
    assert str(caught.value) == (
        "Nobody can be asked: the input is not a terminal. Give --provider (such as jarvislabs), --run "
        "(such as uv run --with pytest pytest), or --yes for all of these."
    )
    assert not (checkout.root / ".github").exists()


def test_yes_takes_what_is_proposed(checkout: Checkout) -> None:
    """What the surroundings suggest: the key of a provider, and AWS' region."""
    checkout.init(yes=True, env={"AWS_DEFAULT_REGION": "eu-west-1"})
    assert checkout.asked == []
    assert read(checkout.profiles.encode(), "g4dn.xlarge", PROFILES) == {
        "provider": "ec2",
        "machine": "g4dn.xlarge",
        "region": "eu-west-1",
    }


def test_a_provider_with_one_type_is_not_asked_for_it(checkout: Checkout) -> None:
    """This machine has no types."""
    checkout.init(answers=["local", ""])
    assert read(checkout.profiles.encode(), "local", PROFILES) == {"provider": "local"}


@pytest.mark.parametrize("which", [PROFILES, WORKFLOW])
def test_nothing_is_overwritten(checkout: Checkout, which: str) -> None:
    """Neither file is touched when one is there; nobody is asked first; --force is the way."""
    file = checkout.root / which
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(AlreadyThere) as caught:
        checkout.init(answers=[])
    assert str(caught.value) == (
        f"{which} would be overwritten, so nothing was written. Use --dry-run to see the new text, "
        "or --force to overwrite."
    )
    assert [path for path in checkout.root.rglob(".github/**/*") if path.is_file()] == [file]
    assert file.read_text() == "mine"
    checkout.init(yes=True, force=True)
    assert "mine" not in checkout.profiles + checkout.workflow


def test_a_dry_run_shows_both_files_and_writes_none(checkout: Checkout) -> None:
    """Also over files that are there."""
    checkout.init(yes=True, dry_run=True)
    assert not (checkout.root / ".github").exists()
    shown = "\n".join(checkout.said)
    checkout.init(yes=True)
    assert checkout.profiles in shown
    assert checkout.workflow in shown
    checkout.init(yes=True, dry_run=True)


def test_it_writes_at_the_root_from_any_folder(checkout: Checkout) -> None:
    """As git does."""
    deep = checkout.root / "src" / "deep"
    deep.mkdir(parents=True)
    checkout.init(yes=True, folder=deep)
    assert (checkout.root / PROFILES).exists()
    assert not (deep / ".github").exists()


def test_outside_of_a_repository_it_writes_where_it_stands(tmp_path: Path) -> None:
    """With the usual branch, and no name to copy."""
    bare = Checkout(root=tmp_path)
    bare.init(yes=True)
    assert loaded(bare.workflow)["on"]["push"]["branches"] == ["main"]
    assert "--repository OWNER/NAME" in bare.said[-1]


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (MARKED, "uv run pytest -m gpu"),
        ('[tool.pytest]\nmarkers = ["gpu"]', "uv run pytest -m gpu"),
        ('[tool.pytest.ini_options]\nmarkers = "gpu: x\\nslow: y"', "uv run pytest -m gpu"),
        ('[tool.pytest.ini_options]\nmarkers = ["gpus: x"]', "uv run pytest"),
        ("", "uv run pytest"),
        ("not = toml = at all", "uv run pytest"),
        (None, "uv run --with pytest pytest"),
    ],
)
def test_the_command_is_proposed_by_the_project(
    checkout: Checkout, text: str | None, command: str
) -> None:
    """By its markers, and by whether it is a project at all."""
    if text is not None:
        checkout.put("pyproject.toml", text)
    checkout.init(yes=True)
    assert loaded(checkout.workflow)["jobs"]["gpu"]["with"]["run"] == command


def test_the_default_branch_is_the_remotes(checkout: Checkout) -> None:
    """Not the one that happens to be checked out; a usual name where the remote is not known."""
    checkout.init(yes=True)
    assert loaded(checkout.workflow)["on"]["push"]["branches"] == ["trunk"]
    identity = ("-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false")
    checkout.git(*identity, "commit", "-q", "--allow-empty", "-m", "x")
    checkout.git("branch", "main")
    checkout.init(yes=True, force=True)
    assert loaded(checkout.workflow)["on"]["push"]["branches"] == ["main"]
    checkout.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/4.10")
    checkout.git("update-ref", "refs/remotes/origin/4.10", "HEAD")
    checkout.init(yes=True, force=True)
    assert loaded(checkout.workflow)["on"]["push"]["branches"] == ["4.10"]


def test_what_is_next_is_said_in_order(checkout: Checkout) -> None:
    """Secrets and rights, the label, the check without cost; no token of the remote's address."""
    checkout.init(provider="jarvislabs", machine="A100", run="x")
    steps = checkout.said[-1]
    wanted = [
        "gh secret set GPU_RUNNER_TOKEN --repo octo/widgets",
        "Administration: read and write",
        "gh secret set JL_API_KEY --repo octo/widgets",
        "gh label create run-gpu-ci --repo octo/widgets",
        "it reads GITHUB_TOKEN, JL_API_KEY from the environment",
        "gpu-ci doctor --profile a100 --repository octo/widgets",
        f"Commit {PROFILES} and {WORKFLOW}",
        "`gpu / result`",
    ]
    places = [steps.index(text) for text in wanted]
    assert places == sorted(places)
    assert "t0ken" not in "\n".join(checkout.said)


def test_what_is_next_can_be_copied_where_it_was_called(checkout: Checkout) -> None:
    """From a clone there is no `gpu-ci` on PATH: the command is the one that was used."""
    env = {"GPU_CI_PROGRAM": "sh ../gpu-ci/shared/run"}
    checkout.init(env=env, provider="jarvislabs", machine="A100", run="x")
    assert "     sh ../gpu-ci/shared/run doctor --profile a100" in checkout.said[-1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            {"provider": "tea"},
            f"--provider is 'tea'; it must be one of {', '.join(PROVIDERS)}.",
        ),
        (
            {"yes": True, "profile": "a b"},
            "--profile is 'a b'; a name is letters, digits, dots, - and _.",
        ),
        (
            {"source": "x", "machine": "y"},
            "--from says which machines there are: leave out --provider, --machine.",
        ),
        (
            {"source": "/absent.yml"},
            "--from: /absent.yml cannot be read (No such file or directory).",
        ),
    ],
)
def test_a_flag_that_cannot_be_used_is_named(
    checkout: Checkout, flags: dict[str, Any], words: str
) -> None:
    """With what to give instead, and before anything is written."""
    with pytest.raises(BadInputs) as caught:
        checkout.init(**flags)
    assert str(caught.value) == words
    assert not (checkout.root / ".github").exists()


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_what_is_written_passes_every_lint_tool(tmp_path: Path) -> None:
    """Of every provider: actionlint, the schemas, and zizmor pedantic, which finds the tag alone: a
    user chooses between a tag and a hash."""
    made = [checkout_in(tmp_path / provider) for provider in PROVIDERS]
    for each, provider in zip(made, PROVIDERS, strict=True):
        each.init(provider=provider, yes=True)
    workflows = [each.root / WORKFLOW for each in made]
    profiles = [each.root / PROFILES for each in made]
    commands: list[tuple[str | Path, ...]] = [
        ("actionlint", *workflows),
        ("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows),
        ("check-jsonschema", "--schemafile", ROOT / "gpu-ci.schema.json", *profiles),
    ]
    for command in commands:
        done = run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
    done = run("zizmor", "--persona", "pedantic", "--offline", "--format", "json", *workflows)
    found = [finding["ident"] for finding in yaml.safe_load(done.stdout)]
    assert found == ["unpinned-uses"] * len(workflows)


@pytest.mark.parametrize(
    ("provider", "secrets"),
    [
        ("ec2", {"aws-access-key-id", "aws-secret-access-key"}),
        ("jarvislabs", {"jl-api-key"}),
        ("local", set()),
    ],
)
def test_the_workflow_calls_ours_as_it_is(
    checkout: Checkout, provider: str, secrets: set[str]
) -> None:
    """With inputs and secrets that exist, the provider's own secrets alone, and every permission
    without which GitHub would refuse the call."""
    checkout.init(provider=provider, yes=True)
    job = loaded(checkout.workflow)["jobs"]["gpu"]
    assert job["uses"] == "org/gpu-ci/.github/workflows/gpu-job.yml@v1"
    ours = loaded((ROOT / ".github" / "workflows" / "gpu-job.yml").read_text())
    told = ours["on"]["workflow_call"]
    assert set(job["with"]) <= set(told["inputs"])
    assert set(job["secrets"]) == {"github-token", *secrets}
    assert set(job["secrets"]) <= set(told["secrets"])
    asked = {
        name: level for each in ours["jobs"].values() for name, level in each["permissions"].items()
    }
    assert job["permissions"] == asked


def group(checkout: Checkout, event: Mapping[str, Any]) -> str:
    """Return the concurrency group of a run of this event, whose run id is 77."""
    expression = loaded(checkout.workflow)["concurrency"]["group"]
    assert expression == (
        "${{ github.workflow }}-${{ github.event.label.name == 'run-gpu-ci' && "
        "github.event.number || github.run_id }}"
    )
    label, number = event.get("label", {}).get("name"), event.get("number")
    return f"GPU tests-{(label == 'run-gpu-ci' and number) or 77}"


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ({"number": 5, "label": {"name": "run-gpu-ci"}}, "GPU tests-5"),
        ({"number": 5, "label": {"name": "docs"}}, "GPU tests-77"),
        ({"number": 5}, "GPU tests-77"),
        ({}, "GPU tests-77"),
    ],
)
def test_only_our_label_ends_a_running_test(
    checkout: Checkout, event: dict[str, Any], name: str
) -> None:
    """Another label or a push cancels nothing that is paid for; the label added again does."""
    checkout.init(yes=True)
    assert loaded(checkout.workflow)["concurrency"]["cancel-in-progress"] is True
    assert loaded(checkout.workflow)["on"]["pull_request"]["types"] == [
        "labeled",
        "opened",
        "synchronize",
        "reopened",
    ]
    assert group(checkout, event) == name


@pytest.mark.parametrize(
    "text",
    ["no", "on", "1.10", "a: b", "a, b", "- x", "it's", "# x", "x #y", "{x}", "*", "ü", "a\nb", ""],
)
def test_every_text_is_read_as_it_was_given(text: str) -> None:
    """In a list and alone: no word becomes a truth value, no version a number."""
    written = profiles_text({"a": {"provider": "local", "image": text, "labels": [text, "x"]}})
    values = yaml.safe_load(written)["profiles"]["a"]
    assert (values["image"], values["labels"]) == (text, [text, "x"])


@pytest.mark.parametrize("text", ["1e3", "0o7", "0x1", "1_0", ".5", "+1", "12:30", "2026-01-01"])
def test_what_some_version_takes_for_a_number_is_quoted(text: str) -> None:
    """PyYAML, GitHub and an editor do not agree on what one is."""
    assert f'image: "{text}"' in profiles_text({"a": {"provider": "local", "image": text}})


def test_the_command_takes_its_flags(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the folder in which one stands, without a terminal; a failure has its exit code."""
    monkeypatch.chdir(checkout.root)
    monkeypatch.delenv("GPU_CI_PROGRAM", raising=False)  # of whoever runs the tests
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert cli.main(["init"]) == 2
    assert "Nobody can be asked" in capsys.readouterr().err
    flags = ["--provider", "jarvislabs", "--machine", "A100", "--run", "x", "--python", "3.12"]
    assert cli.main(["init", *flags, "--profile", "mine"]) == 0
    assert "gpu-ci doctor --profile mine" in capsys.readouterr().out
    assert cli.main(["init", *flags]) == 66
    assert cli.main(["init", *flags, "--force", "--dry-run"]) == 0


def test_the_end_of_a_terminals_input_is_an_interrupt(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-D leaves as Ctrl-C does, with nothing written."""
    monkeypatch.chdir(checkout.root)
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    assert cli.main(["init"]) == 130
    assert not (checkout.root / ".github").exists()
