"""Which of several tokens is asked, what is remembered of a refusal, and when a 404 is an absence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.fakes import REPOSITORY, FakeClock
from tests.github.desk import RUN
from tests.ledger.desk import entry, history, stopped

from gpu_ci.errors import Absent, Forbidden, Limited
from gpu_ci.github.client import GitHub
from gpu_ci.github.contents import file_at
from gpu_ci.github.tokens import Access, FirstThatMay
from gpu_ci.runtime.clock import Deadline
from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.faults import answer

if TYPE_CHECKING:
    from tests.github.desk import Desk

RUNS = f"/repos/{REPOSITORY}/actions/runs"
COMMIT = "c" * 40


def job_token(desk: Desk, repository: str = REPOSITORY, **permissions: str) -> str:
    return desk.state.issue(credentials.job_token(repository, **permissions))


def left(desk: Desk, token: str) -> int:
    """Return how many requests this token has left of its hour."""
    limit = desk.state.credentials[token].hourly_limit
    return desk.state.limits.window(token, limit).remaining


def access(desk: Desk, *tokens: str) -> Access:
    return Access(api_url=desk.hub.url, repository=REPOSITORY, tokens=tokens, say=desk.said.append)


def test_no_token_is_asked_with_twice() -> None:
    """An empty one is none, and the order stays; nor is one shown."""
    asked = Access(api_url="http://127.0.0.1:9", repository=REPOSITORY, tokens=["b", "", "a", "b"])
    lines = asked.lines(Deadline.after(1.0, FakeClock()), lambda token: {401: token}, tries=2)
    assert [line.cures for line in lines] == [{401: "b"}, {401: "a"}]
    assert {line.tries for line in lines} == {2}
    assert "tokens" not in repr(asked)


@pytest.mark.parametrize("stranger_first", [False, True])
def test_a_run_is_gone_if_one_of_the_tokens_sees_the_others(
    desk: Desk, stranger_first: bool
) -> None:
    """A token of another repository, which gets a 404 for everything, makes no doubt of that."""
    stranger = job_token(desk, "octo/elsewhere", actions="read")
    own = job_token(desk, actions="read")
    first, second = (stranger, own) if stranger_first else (own, stranger)
    with pytest.raises(Absent):
        desk.client(second, run_token=first).run("99")


def test_a_run_that_no_token_may_see_is_not_gone(desk: Desk) -> None:
    """Neither with one token nor with two."""
    strangers = [job_token(desk, "octo/elsewhere", actions="read") for _ in range(2)]
    with pytest.raises(Forbidden, match=r"runs/99.*404"):
        desk.client(strangers[0], run_token=strangers[1]).run("99")


def test_an_absence_that_cannot_be_proved_is_an_error(desk: Desk) -> None:
    """The list of runs is limited just then: nobody knows, and it is not taken for gone."""
    desk.add(answer(429, path=r"runs\?per_page=1$", times=None))
    with pytest.raises(Limited):
        desk.client(patience=20).run("99")


def test_a_token_that_may_not_read_is_not_asked_again(desk: Desk) -> None:
    """Each request of it counts, and all its answers are the same."""
    poor = job_token(desk)
    client = desk.client(run_token=poor)
    client.run(str(RUN))
    client.jobs(str(RUN))
    client.jobs_of_attempt(str(RUN), "1")
    assert (left(desk, poor), left(desk, desk.admin)) == (999, 4997)


def test_a_token_that_may_not_cancel_still_reads(desk: Desk) -> None:
    """What it is refused there says nothing of reading, which has its own limit."""
    reader = job_token(desk, actions="read")
    client = desk.client(run_token=reader)
    client.cancel(str(RUN))
    assert [request.status for request in desk.calls("POST")] == [403, 202]
    client.run(str(RUN))
    assert (left(desk, reader), left(desk, desk.admin)) == (998, 4999)


def test_the_last_token_is_asked_whatever_it_was_refused(desk: Desk) -> None:
    """There is no other: a right that comes back is used."""
    desk.add(answer(403, {"message": "no"}, path=f"runs/{RUN}$"))
    client = desk.client()
    with pytest.raises(Forbidden):
        client.run(str(RUN))
    assert client.run(str(RUN)).id == RUN


@pytest.mark.parametrize("lasting", [False, True])
def test_whichever_token_is_last_is_told_what_reading_runs_needs(desk: Desk, lasting: bool) -> None:
    """Not what registering runners needs, which has nothing to do with it."""
    poor = [
        desk.state.issue(credentials.fine_grained(REPOSITORY, administration="write")),
        job_token(desk),
    ]
    line, run_line = (desk.client(token).line for token in poor)
    client = GitHub(
        line,
        scope=f"repos/{REPOSITORY}",
        repository=REPOSITORY,
        run_line=run_line,
        lasting=lasting,
    )
    with pytest.raises(Forbidden, match="actions: read") as raised:
        client.run(str(RUN))
    assert "Administration" not in str(raised.value)
    assert left(desk, poor[1]) == 999


def test_asking_with_nothing_is_forbidden() -> None:
    """And no index error."""
    with pytest.raises(Forbidden, match="no token"):
        FirstThatMay([], RUNS).ask("actions", lambda line: line.get(RUNS))


def test_history_keeps_no_answer(desk: Desk) -> None:
    """A month has thousands, each long and read once; nor does it touch those of the client."""
    stopped(desk, entry())
    client = desk.client()
    list(client.runs_that_are("queued"))
    known = [dict(line.known) for line in client.run_lines]
    reader = type(history(desk)).beside(client, Deadline.after(5.0, desk.clock))
    (run, *_) = reader.runs(0.0)
    (job,) = reader.jobs(run.id)
    assert reader.annotations(job.id)
    assert [line.known for line in reader._lines] == [{}]
    assert [line.known for line in client.run_lines] == known != [{}]
    assert (reader.counted, client.counted) == (3, 1)


def test_history_that_a_token_may_not_see_is_not_empty(desk: Desk) -> None:
    """A 404 for the runs themselves is a right that is missing, and says which."""
    stranger = job_token(desk, "octo/elsewhere", actions="read", checks="read")
    with pytest.raises(Forbidden, match="`checks: read`"):
        list(history(desk, stranger).runs(0.0))


def test_a_file_is_read_with_the_other_token_where_one_is_limited(desk: Desk) -> None:
    """As runs are."""
    desk.state.contents.put(REPOSITORY, COMMIT, "a.yml", "x")
    limited, other = (job_token(desk, contents="read") for _ in range(2))
    desk.state.set_remaining(0, reset_in=2400, token=limited)
    both = access(desk, limited, other)
    read = file_at(both, "a.yml", COMMIT, most_bytes=9, clock=desk.clock)
    assert read == b"x"


def test_a_file_that_is_not_there_is_absent(desk: Desk) -> None:
    """To a token that sees the commit; with none at all nobody can know."""
    desk.state.contents.put(REPOSITORY, COMMIT, "a.yml", "x")
    own = job_token(desk, contents="read")
    with pytest.raises(Absent):
        file_at(access(desk, own), "b.yml", COMMIT, most_bytes=9)
    with pytest.raises(Forbidden, match="has no token"):
        file_at(access(desk, ""), "b.yml", COMMIT, most_bytes=9)
