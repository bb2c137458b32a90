"""What a failed step leaves to read: on the job's page, in the log, and for the report of a bug."""

from __future__ import annotations

import re
import signal
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.runtime.test_workflow_commands import obeyed

from gpu_ci import cli
from gpu_ci.errors import BadInputs, BootFailed, GpuCiError, NoCapacity, NotAllowed, Unexpected
from gpu_ci.runtime import failure, workflow_commands
from gpu_ci.runtime.signals import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[2]
SECRET = "s3cret_key-of*mine"
MARKUP = "<img src=x> [a](b) `c` *d* | $e$ ~~f~~ & #1"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The page of a step on a runner."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "page"))
    return tmp_path / "page"


def failing(error: BaseException) -> Callable[[Mapping[str, str]], NoReturn]:
    def story(_env: Mapping[str, str]) -> NoReturn:
        raise error

    return story


def ended(error: BaseException, env: Mapping[str, str] | None = None) -> int:
    return cli.run(failing(error), env or {})


def test_the_page_has_the_cause_and_the_cure(page: Path) -> None:
    """Whoever opens the run reads both, with what could not be given back, without the log."""
    error = NoCapacity("Nothing is free.", "Try later.")
    error.add_note("Machine i-1 could not be given back.\n\nRunner r-1 could not be removed.")
    assert ended(error) == 20
    assert page.read_text().split("\n\n") == [
        "### gpu-ci failed: NoCapacity (exit code 20)",
        "**Cause:** Nothing is free.",
        "**What to do:** Try later.",
        "**Also:** Machine i-1 could not be given back.",
        "**Also:** Runner r-1 could not be removed.",
        "",
    ]


def test_each_problem_of_the_inputs_is_a_paragraph(page: Path) -> None:
    """They can be read one by one; nothing is said of a cure that each of them names itself."""
    assert ended(BadInputs(["one", "two"])) == 2
    assert page.read_text().split("\n\n")[1:3] == ["**Cause:** one", "**Cause:** two"]
    assert "What to do" not in page.read_text()


def test_a_cancel_is_on_the_page_with_what_it_left(page: Path) -> None:
    """It is no failure, and what is left is billed all the same."""
    error = Cancelled(signal.SIGINT)
    error.add_note("Machine i-1 could not be given back.")
    assert ended(error) == 130
    assert page.read_text().split("\n\n")[:-1] == [
        "### gpu-ci was cancelled (exit code 130)",
        "**Cause:** cancelled by SIGINT",
        "**Also:** Machine i-1 could not be given back.",
    ]


def test_what_the_gate_has_told_is_not_told_again(page: Path) -> None:
    """Its own table has the reason and the cure."""
    workflow_commands.summary("### The GPU job may not run")
    assert ended(NotAllowed("No label.", "Set one.")) == 68
    assert page.read_text() == "### The GPU job may not run\n\n"


def test_a_boot_log_is_not_on_the_page(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a user's script has printed there is for those who may read the log."""
    assert ended(BootFailed("It failed.", tail=["password=x"])) == 30
    assert "password=x" in capsys.readouterr().out
    assert "password" not in page.read_text()


words = st.text() | st.sampled_from(
    [MARKUP, "a\n\n# b", "a\n\n- b", "a\n\n```\nb", "a\n\n    b", "x\n===", "<!--", "\\", "&lt;"]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words, words, words)
def test_what_an_error_says_is_text_and_not_markdown(
    page: Path, what: str, cure: str, note: str
) -> None:
    """Each paragraph is one line of ours with their words in it, each of them harmless."""
    page.unlink(missing_ok=True)
    error = GpuCiError(what, cure)
    error.add_note(note)
    ended(error)
    head, *lines = page.read_text().split("\n")[:-2]
    assert head == "### gpu-ci failed: GpuCiError (exit code 1)"
    assert lines[0::2] == [""] * (len(lines) // 2)
    for line in lines[1::2]:
        words = re.fullmatch(r"\*\*(?:Cause|What to do|Also):\*\* (.*)", line)
        assert words, line
        assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]|<>~$&]", words[1]), line


@pytest.mark.parametrize("written", [SECRET, f"https://{SECRET}@x", f"{{'token': {SECRET!r}}}"])
def test_no_secret_reaches_the_page(page: Path, written: str) -> None:
    """Of a variable or masked later, in cause, cure or note, before an escape can disguise it."""
    error = GpuCiError(f"GitHub says {written}.", f"Look at {written}.")
    error.add_note(f"Left: {written}.")

    def story(_env: Mapping[str, str]) -> NoReturn:
        raise error

    assert cli.run(story, {"INPUT_GITHUB_TOKEN": SECRET}) == 1
    assert "s3cret" not in page.read_text()
    assert page.read_text().count("\\*\\*\\*") == 3


def test_what_was_masked_on_the_way_does_not_reach_the_page(page: Path) -> None:
    """A token that an app got only now is in no variable."""

    def story(_env: Mapping[str, str]) -> NoReturn:
        workflow_commands.mask(SECRET)
        raise GpuCiError(f"GitHub says {SECRET}.")

    cli.run(story, {})
    assert "**Cause:** GitHub says \\*\\*\\*." in page.read_text()


def test_the_longest_error_fits_on_the_page(page: Path) -> None:
    """The runner drops a page of more than 1 MiB, and with it what was on it before."""
    error = GpuCiError("\U0001f600" * 10**6, "|" * 10**6)
    error.add_note("\U0001f600" * 10**6)
    ended(error)
    assert 100_000 < page.stat().st_size < workflow_commands.SUMMARY_LIMIT
    assert page.read_text().count("… The rest is in the log.") == 3


def test_a_page_that_cannot_be_written_hides_no_error(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk is a warning beside the error, and the exit code stays."""
    page.mkdir()
    assert ended(NoCapacity("Nothing is free.")) == 20
    error, warning = capsys.readouterr().out.splitlines()
    assert error == "::error::Nothing is free."
    assert warning.startswith("::warning::This error could not be added to the job's summary")


# A bug


def buggy(_env: Mapping[str, str]) -> NoReturn:
    """Fail as a library does that shows what it was given, with a secret in a variable."""
    hidden = SECRET[::-1]
    error = ZeroDivisionError(f"{len(hidden)} of Bearer {SECRET}")
    error.add_note(f"Machine i-1 with {SECRET} could not be given back.")
    raise error from OSError(f"no answer from https://x:{SECRET}@index/, {SECRET}\n::add-mask::a")


def test_a_bug_ends_with_all_that_its_report_needs(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The traceback with its cause, the versions, the address, in this order; and an exit code of
    its own."""
    assert cli.run(buggy, {"JL_API_KEY": SECRET}) == Unexpected.exit_code == 79
    out = capsys.readouterr().out
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    places = [
        "OSError: no answer from",
        "Traceback (most recent call last):",
        "ZeroDivisionError: 18 of Bearer ***",
        f"gpu-ci {project['version']}",
        f"Python {sys.version_info.major}.{sys.version_info.minor}.",
        f"requests {metadata.version('requests')}",
        "::error::gpu-ci has a bug (ZeroDivisionError: 18 of Bearer ***). Report it at ",
        f"{project['urls']['Issues']},",
        "::error::Machine i-1 with *** could not be given back.",
    ]
    found = [out.find(place) for place in places]
    assert -1 not in found, out
    assert found == sorted(found)
    head, cause, cure, left = page.read_text().strip().split("\n\n")
    assert head == "### gpu-ci failed: Unexpected (exit code 79)"
    assert cause == ("**Cause:** gpu-ci has a bug (ZeroDivisionError: 18 of Bearer \\*\\*\\*).")
    assert failure.ISSUES in cure
    assert left == "**Also:** Machine i-1 with \\*\\*\\* could not be given back."


def test_a_bug_shows_no_secret_and_gives_no_command(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a variable's value, nor a token in somebody's message, nor a command in it."""
    cli.run(buggy, {"JL_API_KEY": SECRET})
    out = capsys.readouterr().out
    for text in (out, page.read_text()):
        assert "s3cret" not in text
        assert SECRET[::-1] not in text
    assert [command.partition("::")[2].partition("::")[0] for command in obeyed(out)] == [
        "error"
    ] * 2


@pytest.mark.usefixtures("page")
def test_a_bug_in_a_terminal_is_told_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output may be a file for programs. There nothing masks, so nothing may be shown."""
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert cli.run(buggy, {"GITHUB_TOKEN": "", "INPUT_GITHUB_TOKEN": SECRET}) == 79
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" in err
    assert "s3cret" not in err


def test_the_version_names_the_action_that_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag that moves says less than the version, and a fork has another owner."""
    monkeypatch.setenv("GITHUB_ACTION_REPOSITORY", "fork/gpu-ci")
    monkeypatch.setenv("GITHUB_ACTION_REF", "v1")
    assert next(failure.versions()).endswith(" (fork/gpu-ci@v1)")
    monkeypatch.delenv("GITHUB_ACTION_REF")
    assert "fork" not in next(failure.versions())


def test_an_installed_wheel_knows_its_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There is no pyproject.toml beside it, or another project's."""
    monkeypatch.setattr(failure, "ROOT", tmp_path)
    monkeypatch.setattr(metadata, "version", {"gpu-ci": "9.8.7"}.__getitem__)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1"\n')
    assert next(failure.versions()).startswith("gpu-ci 9.8.7")


def test_a_bug_of_the_parser_is_named(page: Path) -> None:
    """The line of a SyntaxError stands behind its place."""
    assert cli.run(lambda _env: exec(compile("a b", "x.py", "exec")), {}) == 79
    assert "(SyntaxError: invalid syntax" in page.read_text()
