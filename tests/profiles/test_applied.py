"""What a profile fills in for a start and for a stop, and what outranks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpu_ci import cli
from gpu_ci.errors import BadInputs, GpuCiError
from gpu_ci.inputs.start_inputs import StartInputs
from gpu_ci.model.machine import Machine, to_handle
from gpu_ci.model.tags import Tags
from gpu_ci.profiles import applied, applied_to_stop
from gpu_ci_sandbox.faults import answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gpu_ci_sandbox.fake_github.rest import ServedGitHub

FULL = """
profiles:
  a:
    provider: ec2
    machine: [g5.xlarge, g4dn.xlarge]
    region: eu-west-1
    market: spot
    release: terminate
    max-lifetime-minutes: 30
    provider-options: {volume-type: gp2}
    aws-role: arn:role
"""
TAGS = Tags(
    repository="o/r", run_id="1", attempt="1", key="k", name="m", label="m", scope="repos/o/r"
)
HANDLE = to_handle([Machine(provider="local", id="1", tags=TAGS)])


def nobody(text: str) -> None:
    raise AssertionError(f"nothing was to be said: {text}")


def test_without_a_profile_nothing_is_read(step: dict[str, str], hub: ServedGitHub) -> None:
    """The environment is the same one."""
    env = step | {"INPUT_PROFILE": " "}
    assert applied(env, nobody) is env
    assert applied_to_stop(env, nobody, nobody) == env
    assert hub.faults.requests == ()


def test_a_profile_fills_in_what_is_left_out(
    step: dict[str, str], checked_out: Callable[[str], None]
) -> None:
    """The code then reads it as if it had stood in the workflow; minutes, lists, options."""
    checked_out(FULL)
    said: list[str] = []
    inputs = StartInputs.read(applied(step | {"INPUT_GITHUB_TOKEN": "t"}, said.append))
    assert (inputs.provider, inputs.market, inputs.max_lifetime) == ("ec2", "spot", 1800)
    assert (inputs.machine, inputs.region) == (("g5.xlarge", "g4dn.xlarge"), ("eu-west-1",))
    assert (inputs.provider_options.volume_type, inputs.profile) == ("gp2", "a")
    assert said == [
        (
            "Profile a of .github/gpu-ci.yml gives provider, machine, region, market, release, "
            "max-lifetime-minutes, provider-options, aws-role."
        )
    ]


def test_an_input_outranks_the_profile(
    step: dict[str, str], checked_out: Callable[[str], None]
) -> None:
    """As a whole: no list is joined to another one. Spaces are no input."""
    checked_out(FULL)
    said: list[str] = []
    env = applied(step | {"INPUT_MACHINE": "p3.2xlarge", "INPUT_REGION": "\n "}, said.append)
    assert (env["INPUT_MACHINE"], env["INPUT_REGION"]) == ("p3.2xlarge", "eu-west-1")
    assert said[0].endswith("; the inputs outrank its machine.")


def test_a_profile_reaches_no_other_variable(
    step: dict[str, str], checked_out: Callable[[str], None]
) -> None:
    """Only inputs of its own keys change, and none that was given."""
    checked_out(FULL)
    env = applied(step, lambda _: None)
    assert {name: env[name] for name in step} == step
    assert all(name.startswith("INPUT_") for name in set(env) - set(step))


def test_a_stop_takes_what_tells_it_whose_machines_to_give_back(
    step: dict[str, str], checked_out: Callable[[str], None]
) -> None:
    """Not `region`, which would hide machines from it (a start with another region leaves one
    running: pain 1), and nothing that a stop has no input for."""
    checked_out(FULL)
    env = applied_to_stop(step, lambda _: None, nobody)
    assert {name: env[name] for name in set(env) - set(step)} == {
        "INPUT_PROVIDER": "ec2",
        "INPUT_RELEASE": "terminate",
        "INPUT_PROVIDER_OPTIONS": '{"volume-type":"gp2"}',
    }


@pytest.mark.parametrize("text", ["profiles: {}", "[", "profiles: {a: {nonsense: 1}}"])
def test_a_stop_with_a_handle_needs_no_profile(
    step: dict[str, str], checked_out: Callable[[str], None], text: str
) -> None:
    """A file that was broken meanwhile leaves no machine running (pain 1); it is said."""
    checked_out(text)
    warned: list[str] = []
    env = applied_to_stop(step | {"INPUT_HANDLE": HANDLE}, nobody, warned.append)
    assert env["INPUT_PROVIDER"] == "local"
    (warning,) = warned
    assert warning.startswith(
        "The profile is not used, and the machine is given back by its handle"
    )


def test_a_stop_that_reaches_no_github_reads_its_handle(
    step: dict[str, str], hub: ServedGitHub
) -> None:
    """The provider that was given by hand counts before that of the handle."""
    env = step | {"INPUT_HANDLE": HANDLE, "GPU_CI_RUN_TOKEN": ""}
    for given, taken in (("ec2", "ec2"), (" ", "local")):
        filled = applied_to_stop(env | {"INPUT_PROVIDER": given}, nobody, lambda _: None)
        assert filled["INPUT_PROVIDER"] == taken
    assert hub.faults.requests == ()


def test_a_stop_with_a_handle_does_not_wait_for_an_outage(
    step: dict[str, str], hub: ServedGitHub
) -> None:
    """A profile is asked for twice, not until a minute is over: the machine is billed meanwhile."""
    hub.faults.add(answer(502, path=r"/contents/", times=None))
    warned: list[str] = []
    applied_to_stop(step | {"INPUT_HANDLE": HANDLE}, nobody, warned.append)
    assert len(warned) == 1
    assert len(hub.faults.requests) == 2


@pytest.mark.parametrize("handle", ["", "no handle", "[]"])
def test_a_stop_without_a_handle_fails_without_its_profile(
    step: dict[str, str], checked_out: Callable[[str], None], handle: str
) -> None:
    """It does not know where to look, and says so."""
    checked_out("profiles: {}")
    with pytest.raises(BadInputs, match="profile 'a' is not known"):
        applied_to_stop(step | {"INPUT_HANDLE": handle}, nobody, nobody)


@pytest.mark.parametrize("command", ["start", "stop", "doctor"])
def test_a_terminal_takes_a_profile_of_its_folder(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`--profile` means the file of the repository that one stands in."""
    for name in ("GITHUB_ACTIONS", "GITHUB_TOKEN", "GH_TOKEN", "INPUT_PROVIDER"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".github").mkdir()
    (tmp_path / ".github" / "gpu-ci.yml").write_text("profiles: {a: {provider: tea}}")
    monkeypatch.chdir(tmp_path)
    assert cli.main([command, "--profile", "a", "--repository", "o/r"]) == 2
    assert "provider is 'tea'; it must be one of" in capsys.readouterr().err
    assert cli.main([command, "--profile", "b", "--repository", "o/r"]) == 2
    assert "profile 'b' is not known" in capsys.readouterr().err


def test_no_secret_of_the_step_is_in_what_is_said(step: dict[str, str]) -> None:
    """Neither when it works nor when it fails."""
    heard: list[str] = []
    for env in (step, step | {"INPUT_PROFILE": "b"}):
        try:
            applied(env, heard.append)
        except GpuCiError as error:
            heard.append(str(error))
    assert len(heard) == 2
    assert not any(step["GPU_CI_RUN_TOKEN"] in text for text in heard)


def test_the_environment_that_was_given_is_not_changed(step: Mapping[str, str]) -> None:
    """It may be the process' own."""
    before = dict(step)
    applied(step, lambda _: None)
    assert step == before
