"""The stories from a terminal, and what a failure looks like."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from gpu_ci import cli
from gpu_ci.errors import BootFailed, NoCapacity, Unexpected
from gpu_ci.inputs.reader import input_names, variable
from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs
from gpu_ci.inputs.start_inputs import StartInputs
from gpu_ci.inputs.stop_inputs import StopInputs
from gpu_ci.inputs.watchdog_inputs import WatchdogInputs
from gpu_ci.runtime.signals import Cancelled
from gpu_ci.setup_uv.exports import Exports
from gpu_ci.setup_uv.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No runner, no inputs and no tokens around."""
    for name in os.environ:
        if name.startswith(("GITHUB_", "GH_", "INPUT_", "GPU_CI_")):
            monkeypatch.delenv(name)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Mapping[str, str]]:
    """The environments that the stories were told with, by command."""
    heard: dict[str, Mapping[str, str]] = {}

    def listener(command: str) -> Callable[[Mapping[str, str]], None]:
        return lambda env: heard.update({command: env})

    monkeypatch.setattr(cli, "STORIES", {name: listener(name) for name in cli.STORIES})
    return heard


@pytest.mark.parametrize(
    ("command", "inputs"),
    [
        ("start", StartInputs),
        ("stop", StopInputs),
        ("watchdog", WatchdogInputs),
        ("setup-uv", SetupUvInputs),
    ],
)
def test_every_input_is_a_flag(
    told: dict[str, Mapping[str, str]], command: str, inputs: type[Any]
) -> None:
    """What an action takes, a terminal takes under the same name; secrets apart."""
    names = [name for name in input_names(inputs) if name not in cli.FROM_ENVIRONMENT]
    flags = [text for name in names for text in (f"--{name}", f"value of {name}")]
    assert cli.main([command, *flags]) == 0
    given = {name: told[command].get(variable(name)) for name in names}
    assert given == {name: f"value of {name}" for name in names}


@pytest.mark.parametrize("secret", cli.FROM_ENVIRONMENT)
def test_a_secret_is_never_a_flag(
    told: dict[str, Mapping[str, str]], capsys: pytest.CaptureFixture[str], secret: str
) -> None:
    """Every user of the machine can read a command line."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["start", f"--{secret}", "s3cret"])
    assert caught.value.code == 2
    assert told == {}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("GITHUB_TOKEN", "INPUT_GITHUB_TOKEN"),
        ("GH_TOKEN", "INPUT_GITHUB_TOKEN"),
        ("GPU_CI_APP_PRIVATE_KEY", "INPUT_APP_PRIVATE_KEY"),
    ],
)
def test_secrets_come_from_the_environment(
    told: dict[str, Mapping[str, str]], monkeypatch: pytest.MonkeyPatch, source: str, target: str
) -> None:
    """Under the names that other tools use."""
    monkeypatch.setenv(source, "s3cret")
    cli.main(["stop", "--provider", "local"])
    assert told["stop"][target] == "s3cret"


def test_a_repository_can_be_named(
    told: dict[str, Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flag wins over the environment; without it the environment's stays."""
    monkeypatch.setenv("GITHUB_REPOSITORY", "octo/old")
    cli.main(["start", "--repository", "octo/new"])
    cli.main(["stop"])
    assert told["start"]["GITHUB_REPOSITORY"] == "octo/new"
    assert told["stop"]["GITHUB_REPOSITORY"] == "octo/old"


def test_a_flag_that_is_not_given_keeps_the_environment(
    told: dict[str, Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`INPUT_*` works in a terminal as well; a flag wins over it."""
    monkeypatch.setenv("INPUT_REGION", "here")
    monkeypatch.setenv("INPUT_KEY", "old")
    cli.main(["stop", "--key", "new"])
    assert (told["stop"]["INPUT_REGION"], told["stop"]["INPUT_KEY"]) == ("here", "new")


def test_doctor_is_a_start_that_spends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes the flags of start, and dry-run is set whatever they say."""
    heard: list[Mapping[str, str]] = []
    monkeypatch.setattr("gpu_ci.start.start", heard.append)
    assert cli.main(["doctor", "--provider", "local", "--dry-run", "false"]) == 0
    assert heard[0]["INPUT_PROVIDER"] == "local"
    assert heard[0]["INPUT_DRY_RUN"] == "true"


def test_setting_uv_up_asks_nothing_of_github(
    told: dict[str, Mapping[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """It knows no repository, and its help speaks of no token."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["setup-uv", "--repository", "octo/new"])
    assert (caught.value.code, told) == (2, {})
    with pytest.raises(SystemExit):
        cli.main(["setup-uv", "--help"])
    assert "TOKEN" not in capsys.readouterr().out


def test_setting_uv_up_is_the_story_of_its_action(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command calls the same code as the step."""
    heard: list[Mapping[str, str]] = []
    monkeypatch.setattr("gpu_ci.setup_uv.setup_uv", heard.append)
    assert cli.main(["setup-uv", "--python-version", "3.12"]) == 0
    assert heard[0]["INPUT_PYTHON_VERSION"] == "3.12"


def test_a_terminal_is_told_what_to_export(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line of it is one that a shell takes, whatever is in a value, and the last PATH wins."""
    exports = Exports(host=nobody())
    exports.variables["UV_CACHE_DIR"] = "/it's a; disk"
    exports.path += ["/second", "/first"]
    monkeypatch.setattr("gpu_ci.setup_uv.setup_uv", lambda _env: exports.write())
    assert cli.main(["setup-uv"]) == 0
    script = capsys.readouterr().out + 'printf "%s|%s" "$UV_CACHE_DIR" "$PATH"'
    done = subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": "/x"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "/it's a; disk|/first:/second:/x"


def nobody() -> Host:
    return Host(uid=1, home=None, home_is_new=False, machine="", libc="", job={}, own={})


def failing(failure: BaseException) -> Callable[[Mapping[str, str]], NoReturn]:
    def story(_env: Mapping[str, str]) -> NoReturn:
        raise failure

    return story


def test_a_failure_is_a_paragraph_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback for what was to be expected; what could not be given back is said too."""
    failure = NoCapacity("Nothing is free.", "Try later.")
    failure.add_note("Machine i-1 could not be given back.")
    assert cli.run(failing(failure), {}) == 20
    _, err = capsys.readouterr()
    assert err.splitlines() == [
        "Error: Nothing is free. Try later.",
        "Error: Machine i-1 could not be given back.",
    ]


def test_a_failed_boot_shows_the_end_of_its_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that never came up shows more than a timeout (only "timeout" is shown: pain 3), and
    no command in that log is obeyed."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert cli.run(failing(BootFailed("It failed.", tail=["::set-env::x"])), {}) == 30
    error, group, stopped, line, again, end = capsys.readouterr().out.splitlines()
    assert (error, group) == ("::error::It failed.", "::group::The end of the machine's boot log")
    assert line == "  ::set-env::x"
    assert (stopped.rpartition("::")[2], end) == (again.strip(":"), "::endgroup::")


def test_a_cancel_has_the_exit_code_of_its_signal(capsys: pytest.CaptureFixture[str]) -> None:
    """As a shell would report it."""
    assert cli.run(failing(Cancelled(signal.SIGINT)), {}) == 130
    assert "cancelled by SIGINT" in capsys.readouterr().err


def test_an_interrupt_outside_of_a_story_is_no_bug() -> None:
    """Before anything is rented, or after, there is nothing to clean up and no traceback to read."""
    assert cli.run(failing(KeyboardInterrupt()), {}) == 130


def test_a_bug_shows_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """What nobody expected is not dressed up as a user's mistake."""
    assert cli.run(failing(ZeroDivisionError()), {}) == Unexpected.exit_code
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "Error: gpu-ci has a bug (ZeroDivisionError)." in err


def test_bad_inputs_end_before_anything_happens(capsys: pytest.CaptureFixture[str]) -> None:
    """A start and a stop without inputs list all that is missing, and exit with 2."""
    for command in ("start", "stop"):
        assert cli.main([command]) == 2
        err = capsys.readouterr().err
        assert "provider is missing" in err
        assert "github-token is empty" in err


def test_a_watchdog_in_a_terminal_has_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Without inputs it says what to give: a scope, a token and a repository."""
    assert cli.main(["watchdog"]) == 2
    err = capsys.readouterr().err
    for text in ("--scope repository", "github-token is empty", "--repository owner/name"):
        assert text in err


def test_a_watchdog_from_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its flags arrive as inputs, its token from the environment."""
    heard: list[Mapping[str, str]] = []
    monkeypatch.setattr("gpu_ci.watchdog.watchdog", heard.append)
    monkeypatch.setenv("GH_TOKEN", "s3cret")
    flags = ["--scope", "repository", "--queue-minutes", "5", "--repository", "octo/widgets"]
    assert cli.main(["watchdog", *flags]) == 0
    given = {name: heard[0][variable(name)] for name in ("scope", "queue-minutes", "github-token")}
    assert given == {"scope": "repository", "queue-minutes": "5", "github-token": "s3cret"}
    assert heard[0]["GITHUB_REPOSITORY"] == "octo/widgets"


@pytest.mark.parametrize(
    ("flags", "given"),
    [
        ([], {"workflow": None, "provider": "local"}),
        (["--provider", "jarvislabs"], {"workflow": None, "provider": "jarvislabs"}),
        (["--workflow", "a.yml"], {"workflow": "a.yml", "provider": "local"}),
    ],
)
def test_the_demo_takes_its_provider(
    monkeypatch: pytest.MonkeyPatch, flags: list[str], given: dict[str, str | None]
) -> None:
    """This machine unless another one is named."""
    heard: list[dict[str, str | None]] = []
    monkeypatch.setattr("gpu_ci_sandbox.demo.demo", lambda **arguments: heard.append(arguments))
    assert cli.main(["demo", *flags]) == 0
    assert heard == [given]


def test_a_demo_without_a_stand_in_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """What has no stand-in to run against is no choice, and the choices are named."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["demo", "--provider", "ec2"])
    assert caught.value.code == 2
    assert re.search("invalid choice: '?ec2'? .*local.*jarvislabs", capsys.readouterr().err)


def test_a_workflow_file_runs_on_this_machine_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """With another provider it is refused in one sentence, before the file is looked for."""
    assert cli.main(["demo", "--workflow", "absent.yml", "--provider", "jarvislabs"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("leave out --provider jarvislabs.")
