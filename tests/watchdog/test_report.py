"""What a watchdog tells: a table for people, JSON for programs, and nothing twice."""

from __future__ import annotations

from dataclasses import replace

from gpu_ci.errors import Forbidden
from gpu_ci.watchdog.report import MOST_TOLD, Finding, Report, moment

RUN = Finding(
    kind="run",
    what="run 7 (ci)",
    why="job 'a|b' has waited",
    done="cancelled",
    since=1_800_000_000.5,
    acted=True,
    advice="Use 'Re-run <all> jobs'.",
)
MACHINE = Finding(
    kind="machine", what="machine gpu-ci-7", why="run 7 is over", done="would be ended"
)


def report(*findings: Finding) -> Report:
    return Report(scope="repository", dry_run=False, actions_left=20, findings=list(findings))


def test_the_json_for_programs() -> None:
    """Each finding with the same fields, times as text, and what was not seen beside them."""
    told = report(RUN, MACHINE)
    told.note_unseen("Runners")
    told.failures.append(Forbidden("No.", "Ask."))
    assert told.as_json() == {
        "scope": "repository",
        "dry_run": False,
        "findings": [
            {
                "kind": "run",
                "what": "run 7 (ci)",
                "why": "job 'a|b' has waited",
                "advice": "Use 'Re-run <all> jobs'.",
                "since": "2027-01-15T08:00:00Z",
                "done": "cancelled",
                "acted": True,
            },
            {
                "kind": "machine",
                "what": "machine gpu-ci-7",
                "why": "run 7 is over",
                "advice": "",
                "since": "",
                "done": "would be ended",
                "acted": False,
            },
        ],
        "unseen": ["Runners", "No. Ask."],
    }


def test_the_table_for_people() -> None:
    """Its cells are text: names of jobs and words of clouds cannot become Markdown or HTML."""
    head, rule, run, machine = report(RUN, MACHINE).summary().splitlines()[2:]
    assert head == "| What | Why | Since | Done |"
    assert rule == "| --- | --- | --- | --- |"
    assert run == (
        r"| run 7 (ci) | job 'a\|b' has waited. Use 'Re-run \<all\> jobs'. "
        "| 2027-01-15T08:00:00Z | cancelled |"
    )
    assert machine == "| machine gpu-ci-7 | run 7 is over |  | would be ended |"


def test_what_was_not_seen_or_done_stands_below() -> None:
    """A part that could not be looked at is never taken for nothing found."""
    told = report()
    told.note_unseen("Runners: 403")
    told.troubles.append("Run 7 is queued still.")
    told.failures.append(Forbidden("No."))
    assert told.summary().splitlines() == [
        "### Watchdog", "", "Nothing was found in what could be looked at.", "",
        "| Not seen, or not done |", "| --- |",
        "| Runners: 403 |", "| Run 7 is queued still. |", "| No. |",
    ]  # fmt: skip


def test_nothing_is_said_in_one_sentence() -> None:
    """A pass that found nothing says so, and only one that has looked at everything says more."""
    told, whole = report(), replace(report(), whole=True)
    assert told.lines() == ["Nothing was found in what could be looked at."]
    assert whole.lines() == ["Nothing waits too long, and nothing is left over."]
    assert whole.summary().splitlines()[-1] == whole.lines()[0]
    whole.failures.append(Forbidden("No."))
    assert whole.lines() == told.lines()


def test_a_line_for_each_finding() -> None:
    """With the advice where there is any, and no blank behind where there is none."""
    assert report(RUN, MACHINE).lines() == [
        "run 7 (ci): job 'a|b' has waited: cancelled. Use 'Re-run <all> jobs'.",
        "machine gpu-ci-7: run 7 is over: would be ended.",
    ]


def test_a_very_long_report_is_cut_and_says_so() -> None:
    """An output may have one mebibyte: the first findings are told, the log has all."""
    told = report(*[replace(RUN, what=f"run {number}") for number in range(MOST_TOLD + 3)])
    assert len(told.as_json()["findings"]) == MOST_TOLD
    assert "And 3 more, which are in the log." in told.summary()
    assert told.summary().count("| run ") == MOST_TOLD
    assert len(told.lines()) == MOST_TOLD + 3
    assert told.ended("run") == MOST_TOLD + 3


def test_what_was_ended_is_counted_by_kind() -> None:
    """Only what was acted upon."""
    told = report(RUN, RUN, MACHINE, replace(MACHINE, acted=True))
    assert [told.ended("run"), told.ended("machine"), told.ended("registration")] == [2, 1, 0]


def test_actions_run_out() -> None:
    """Two are two, however often it is asked."""
    told = replace(report(), actions_left=2)
    assert [told.may_act() for _ in range(4)] == [True, True, False, False]


def test_the_same_is_not_said_twice() -> None:
    """Both readings of a pass meet the same obstacles."""
    told = report()
    for text in ("a", "b", "a"):
        told.note_unseen(text)
    assert told.unseen == ["a", "b"]


def test_a_moment_is_written_in_utc() -> None:
    """And nothing where nobody knows when."""
    assert (moment(0.0), moment(1_800_000_000)) == ("", "2027-01-15T08:00:00Z")
