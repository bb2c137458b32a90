"""The runner's language, read back as the runner reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_ci.errors import BadInputs
from gpu_ci.inputs.reader import CARRY_SECRETS
from gpu_ci.providers import PROVIDERS
from gpu_ci.runtime import workflow_commands
from gpu_ci_sandbox.action_step import masks_in, read_commands

if TYPE_CHECKING:
    from pathlib import Path

exact = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# The runner ends a line of its files at \\n alone; other control characters are left out here.
values = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")) | st.just("\n"))


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A step on a runner: its folder with the files for commands."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        (tmp_path / name).touch()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No runner at all."""
    for name in ("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@exact
@given(values)
def test_an_output_is_read_back_as_it_was(runner: Path, value: str) -> None:
    """Lines, equals signs and what looks like an entry stay inside the value."""
    (runner / "GITHUB_OUTPUT").write_text("")
    workflow_commands.output("label", value)
    assert read_commands((runner / "GITHUB_OUTPUT").read_text()) == {"label": value}


def test_a_value_cannot_end_its_entry(runner: Path) -> None:
    """The end of one entry is not the end of the next, so that no value sets another output."""
    workflow_commands.output("label", "first")
    end = (runner / "GITHUB_OUTPUT").read_text().split("<<")[1].split("\n")[0]
    workflow_commands.output("key", f"x\n{end}\nmachine=forged\nlabel<<{end}\n")
    outputs = read_commands((runner / "GITHUB_OUTPUT").read_text())
    assert outputs == {"label": "first", "key": f"x\n{end}\nmachine=forged\nlabel<<{end}\n"}


def test_a_later_output_replaces_the_earlier(runner: Path) -> None:
    """What is known early is written early; the last word counts."""
    workflow_commands.output("machine-id", "i-1")
    workflow_commands.output("machine-id", "i-2")
    assert read_commands((runner / "GITHUB_OUTPUT").read_text()) == {"machine-id": "i-2"}


@pytest.mark.usefixtures("runner")
def test_every_line_of_a_secret_is_masked(capsys: pytest.CaptureFixture[str]) -> None:
    """A private key is masked whole and line by line; 100% of it, percent signs too."""
    env = {"INPUT_APP_PRIVATE_KEY": "one\ntwo%0A\n", "INPUT_GITHUB_TOKEN": "  "}
    workflow_commands.mask_secrets(env, CARRY_SECRETS)
    masks = masks_in(capsys.readouterr().out.splitlines())
    assert masks == ["one\ntwo%0A\n", "one", "two%0A"]


@pytest.mark.usefixtures("runner")
@pytest.mark.parametrize(
    "name",
    [
        "INPUT_GITHUB_TOKEN",
        "INPUT_APP_PRIVATE_KEY",
        "GPU_CI_RUN_TOKEN",
        *(secret for about in PROVIDERS.values() for secret in about.secrets),
    ],
)
def test_every_secret_is_masked(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Whatever carries a secret into an entry file: GitHub's, and those that a provider needs."""
    workflow_commands.mask_secrets({name: "s3cret", "INPUT_KEY": "no secret"}, CARRY_SECRETS)
    assert capsys.readouterr().out == "::add-mask::s3cret\n"


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_no_mask(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing hides there what a mask command would print."""
    workflow_commands.mask_secrets(dict.fromkeys(CARRY_SECRETS, "s3cret"), CARRY_SECRETS)
    assert capsys.readouterr().out == ""


def obeyed(out: str) -> list[str]:
    """Return the lines that the runner takes for commands."""
    commands, stopped = [], ""
    for line in out.splitlines():
        text = line.strip()
        if stopped:
            stopped = "" if text == stopped else stopped
        elif text.startswith("::stop-commands::"):
            stopped = f"::{text.removeprefix('::stop-commands::')}::"
        elif text.startswith("::") or "##[" in text:
            commands.append(text)
    assert stopped == "", "commands stay off"
    return commands


@exact
@given(
    st.lists(
        st.sampled_from(["::add-mask::a", "::stop-commands::x", "::x::", "a\n::error::b", "##[x]"])
        | st.text()
    )
)
@pytest.mark.usefixtures("runner")
def test_quoted_text_gives_no_commands(
    capsys: pytest.CaptureFixture[str], lines: list[str]
) -> None:
    """What a machine's log says is shown and not obeyed, and commands work again behind it."""
    capsys.readouterr()
    workflow_commands.quote(lines)
    workflow_commands.warning("behind")
    assert obeyed(capsys.readouterr().out) == ["::warning::behind"]


def test_a_quote_cannot_foresee_its_end(runner: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each quote ends with another word."""
    workflow_commands.quote(["a"])
    workflow_commands.quote(["a"])
    first, _, _, second, _, _ = capsys.readouterr().out.splitlines()
    assert first != second


@pytest.mark.usefixtures("runner")
def test_each_paragraph_of_a_failure_is_an_annotation(capsys: pytest.CaptureFixture[str]) -> None:
    """Several problems are several marks on the run's page, each on one line."""
    workflow_commands.error(BadInputs(["one\n::set-env::", "two, 100%"]))
    assert capsys.readouterr().out == "::error::one%0A::set-env::\n::error::two, 100%25\n"


def test_a_summary_is_added_to_the_page(runner: Path) -> None:
    """Two parts stand below each other."""
    workflow_commands.summary("one")
    workflow_commands.summary("two\n\n\n")
    assert (runner / "GITHUB_STEP_SUMMARY").read_text() == "one\n\ntwo\n\n"


def test_a_summary_never_grows_beyond_what_the_runner_takes(runner: Path) -> None:
    """The part that would make the runner drop all of it is left out; what fits is taken."""
    page = runner / "GITHUB_STEP_SUMMARY"
    workflow_commands.summary("x" * (workflow_commands.SUMMARY_LIMIT - 4))
    workflow_commands.summary("late")
    workflow_commands.summary("")
    assert page.stat().st_size == workflow_commands.SUMMARY_LIMIT
    assert "late" not in page.read_text()


def test_a_name_that_is_no_text_spoils_no_summary(runner: Path) -> None:
    """A file of another time's encoding is named as far as it can be."""
    workflow_commands.summary("log\udce9")
    assert (runner / "GITHUB_STEP_SUMMARY").read_text() == "log?\n\n"


@pytest.mark.parametrize(
    "cell", ["a|b", "a\nb", "a\rb", "*a*", "[a](b)", "<b>", "`a`", "a_b_", "\\|"]
)
def test_cells_are_text_and_not_markdown(cell: str) -> None:
    """A cloud's message breaks no table and is no link, tag or code."""
    *_, row = workflow_commands.table(["Said"], [[cell]]).splitlines()
    inside = row.removeprefix("| ").removesuffix(" |")
    specials = [n for n, letter in enumerate(inside) if letter in "|*_[]<>`"]
    assert [n for n in specials if inside[n - 1] != "\\"] == []
    assert inside.replace("\\\\", "\0").replace("\\", "").replace("\0", "\\") == " ".join(
        cell.split()
    )


def test_a_table_has_a_head_and_rows() -> None:
    """GitHub's Markdown needs the line of hyphens; numbers are written as they are."""
    assert workflow_commands.table(["A", "B"], [["x", 1]]) == "| A | B |\n| --- | --- |\n| x | 1 |"


@pytest.mark.usefixtures("terminal")
def test_a_terminal_reads_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Outside a runner the same calls print sentences; failures go to standard error."""
    with workflow_commands.group("Plan"):
        workflow_commands.say("one machine")
    workflow_commands.notice("hear")
    workflow_commands.warning("look")
    workflow_commands.quote(["from elsewhere"])
    workflow_commands.output("label", "l")
    workflow_commands.summary("not shown")
    workflow_commands.error("broken\n\ntwice")
    out, err = capsys.readouterr()
    assert out == "Plan\none machine\nhear\nWarning: look\n  from elsewhere\nlabel: l\n"
    assert err == "Error: broken\nError: twice\n"


@pytest.mark.usefixtures("runner")
def test_a_group_is_closed_after_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """What follows a failed group is not folded into it."""
    with pytest.raises(OSError, match="broken"), workflow_commands.group("Plan"):
        raise OSError("broken")
    assert capsys.readouterr().out == "::group::Plan\n::endgroup::\n"


def test_json_for_outputs_is_compact() -> None:
    """`fromJSON` reads it; it has no spaces that a shell would split at."""
    assert workflow_commands.as_json(["a", "b"]) == '["a","b"]'
