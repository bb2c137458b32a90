"""What we ask of GitHub, over real HTTP: lost answers, twins, pages, rights, and words for each."""

from __future__ import annotations

import re
from threading import Event
from typing import TYPE_CHECKING

import pytest
from tests.fakes import REPOSITORY
from tests.github.desk import OPERATIONS, RUN, RUNNERS, Desk, desk_at, github_desk
from tests.pace import PATIENCE

from gpu_ci.errors import (
    Absent,
    Busy,
    Conflict,
    Forbidden,
    GitHubError,
    Limited,
    Refused,
    Unreachable,
)
from gpu_ci.github.client import REGISTRATION_TRIES, SIGHT_SECONDS, _web_root
from gpu_ci.github.listings import MOST_FILTERED, MOST_PAGES, PAGE
from gpu_ci.inputs.reader import variable
from gpu_ci.stop import stop
from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.fake_github.rest import serve_github
from gpu_ci_sandbox.fake_github.rest_runs import MAX_FILTERED
from gpu_ci_sandbox.faults import answer, drop, land_late, lose_answer, truncate
from gpu_ci_sandbox.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

    from gpu_ci.github.transport import Answer
    from gpu_ci_sandbox.fake_github.rest import ServedGitHub
    from gpu_ci_sandbox.faults import Request, Rule

JIT = "generate-jitconfig"
NAME, LABELS = "gpu-ci-7-1-x", ("gpu-ci-7-1-x-nonce", "a100")
NOT_FOUND = {"message": "Not Found"}
ORGANISATION = "orgs/octo"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach loopback without the proxy of the machine that the tests run on."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def hub() -> Iterator[ServedGitHub]:
    with serve_github() as served:
        yield served


@pytest.fixture
def desk(hub: ServedGitHub) -> Iterator[Desk]:
    with desk_at(hub) as made:
        yield made


# Every question, as it should be


@pytest.mark.parametrize("scope", [f"repos/{REPOSITORY}", ORGANISATION])
def test_every_question(desk: Desk, scope: str) -> None:
    """All that can be asked, in both scopes; the desk holds it against GitHub's description."""
    client = desk.client(scope=scope)
    assert {build.architecture for build in client.runner_builds()} == {"x64", "arm64"}
    made, config = client.register(NAME, LABELS)
    assert config
    assert client.runner(made.id) == client.runner_named(NAME) == made
    assert client.runners() == [made]
    assert client.registration("other", ["x"], "").token in desk.state.runner_tokens
    client.delete(made.id)
    assert client.runner_named(NAME) is None
    assert client.run(str(RUN)).attempt == 1
    desk.state.queue_job(RUN, "test", ["gpu"])
    [job] = client.jobs(str(RUN))
    assert (job.name, job.status, job.over, job.runner_name) == ("test", "queued", False, "")
    assert client.jobs_of_attempt(str(RUN), "1") == [job]
    assert [run.id for run in client.runs_that_are("queued")] == [RUN]
    client.cancel(str(RUN))
    client.force_cancel(str(RUN))
    client.cancel(str(RUN))
    assert client.run(str(RUN)).conclusion == "cancelled"
    assert len(desk.calls()) == 18


def test_groups(desk: Desk) -> None:
    """A runner group is found by its name; a wrong one is refused with those that there are."""
    group = desk.state.add_group("octo", "gpus")
    client = desk.client(scope=ORGANISATION)
    assert client.group_id("gpus") == group.id
    with pytest.raises(Refused, match=r"'gpu' does not exist.*Default, gpus"):
        client.group_id("gpu")
    client.register(NAME, LABELS, group.id)
    assert desk.state.all_runners()[0].group_id == group.id


def test_no_runner_for_linux(desk: Desk) -> None:
    """Builds for other systems only are refused, not taken."""
    desk.add(answer(200, [{"os": "win", "architecture": "x64", "download_url": "u"}]))
    with pytest.raises(Refused, match="no runner for Linux"):
        desk.client().runner_builds()


def test_labels_are_exactly_ours(desk: Desk) -> None:
    """Not one label is added, default ones included (somebody else's job, pain 16)."""
    made, _ = desk.client().register(NAME, LABELS)
    [request] = desk.calls("POST", JIT)
    assert '"labels": ["gpu-ci-7-1-x-nonce", "a100"]' in request.body
    assert made.labels == set(LABELS)
    [runner] = desk.state.all_runners()
    assert not runner.accepts(("self-hosted",))
    assert runner.accepts(("gpu-ci-7-1-x-nonce",))


# Lost answers (pain 14) and bursts (pain 19)


def by_hand(desk: Desk, *, online: bool = False) -> int:
    """Let a registration of our name and labels exist; return its id."""
    return desk.state.register(REPOSITORY, NAME, LABELS, online=online).id


@pytest.mark.parametrize(
    "fault",
    [
        lose_answer(path=JIT),
        truncate(path=JIT),
        answer(502, path=JIT),
        drop(path=JIT),
        answer(201, {}, path=JIT),
        answer(201, {"runner": {}, "encoded_jit_config": ""}, path=JIT),
        answer(201, "", path=JIT),
    ],
    ids=["lost", "half", "502", "dropped", "other shape", "empty config", "empty"],
)
def test_lost_registration(desk: Desk, fault: Rule) -> None:
    """However a create's answer is lost, one registration is left: the one returned (pain 14)."""
    desk.add(fault)
    made, config = desk.client().register(NAME, LABELS)
    assert [runner.id for runner in desk.state.all_runners()] == [made.id]
    assert config
    assert len(desk.calls("POST", JIT)) == 2


def test_created_behind_a_502(desk: Desk) -> None:
    """A 502 for a request that was carried out ends in one registration too (pain 14)."""
    created: list[int] = []

    def create(number: int, phase: str, request: Request) -> None:
        if request.path.endswith(JIT) and phase == "after" and not created:
            created.append(by_hand(desk))

    desk.hub.faults.on_request(create)
    desk.add(answer(502, path=JIT))
    made, _ = desk.client().register(NAME, LABELS)
    assert [runner.id for runner in desk.state.all_runners()] == [made.id]
    assert made.id not in created


def test_empty_config_of_a_real_registration(desk: Desk) -> None:
    """A 201 without a config is dropped with its registration, and asked again (pain 19)."""
    twin = by_hand(desk)
    data = {"runner": {"id": twin}, "encoded_jit_config": ""}
    desk.add(answer(201, data, path=JIT))
    made, config = desk.client().register(NAME, LABELS)
    assert config
    assert [runner.id for runner in desk.state.all_runners()] == [made.id]
    assert made.id != twin


def test_registration_that_lands_late(desk: Desk) -> None:
    """A create that lands after we looked, between two tries, is dropped as well (pain 14)."""
    desk.add(drop(path=JIT))

    def land() -> None:
        by_hand(desk)

    desk.clock.at(0.1, land)
    made, _ = desk.client().register(NAME, LABELS)
    assert [runner.id for runner in desk.state.all_runners()] == [made.id]
    assert len(desk.calls("POST", JIT)) == 3


def test_lands_after_its_successor(desk: Desk) -> None:
    """A create that lands when its second try has the name already changes nothing (pain 14)."""
    landed = Event()

    def note(number: int, phase: str, request: Request) -> None:
        if request.fault == "late" and request.landed:
            landed.set()

    desk.hub.faults.on_request(note)
    desk.add(land_late(0.1, path=JIT))
    made, _ = desk.client().register(NAME, LABELS)
    assert landed.wait(PATIENCE)
    assert [runner.id for runner in desk.state.all_runners()] == [made.id]


@pytest.mark.parametrize("state", ["online", "busy", "foreign"])
def test_name_of_another_start(desk: Desk, state: str) -> None:
    """A 409 for a name that is not our own lost answer raises, and nothing is deleted (pain 14)."""
    if state == "foreign":
        desk.state.register(REPOSITORY, NAME, ["somebody-elses"])
    else:
        by_hand(desk, online=True)
        desk.state.set_runner(1, job_id=5 if state == "busy" else None)
    with pytest.raises(Conflict, match="already exists"):
        desk.client().register(NAME, LABELS)
    assert desk.names() == [NAME]
    assert desk.calls("DELETE") == []


def test_outage_hides_another_start(desk: Desk) -> None:
    """A lost answer and somebody else's name at once: Conflict in the end, theirs stays."""
    desk.state.register(REPOSITORY, NAME, ["somebody-elses"])
    desk.add(answer(502, path=JIT))
    with pytest.raises(Conflict):
        desk.client().register(NAME, LABELS)
    assert desk.names() == [NAME]


def test_bursts_at_registration(desk: Desk) -> None:
    """Three 502 and then a 201: one registration, with growing pauses between (pain 19)."""
    desk.add(answer(502, path=JIT, times=3))
    made, _ = desk.client().register(NAME, LABELS)
    assert [runner.id for runner in desk.state.all_runners()] == [made.id]
    assert desk.clock.slept == [0.5, 1, 2]


def test_permanent_outage_at_registration(desk: Desk) -> None:
    """A permanent 503 ends as Unreachable and leaves no registration (pain 19)."""
    desk.add(answer(503, path=JIT, times=None))
    with pytest.raises(Unreachable, match="503"):
        desk.client().register(NAME, LABELS)
    assert desk.names() == []
    assert len(desk.calls("POST", JIT)) == REGISTRATION_TRIES


def test_no_time_for_another_try(desk: Desk) -> None:
    """Without time for a pause the first lost answer is the last; its twin is dropped (pain 14)."""
    desk.add(lose_answer(path=JIT))
    with pytest.raises(Unreachable):
        desk.client(patience=0.2).register(NAME, LABELS)
    assert desk.names() == []


def test_outage_of_everything_at_registration(desk: Desk) -> None:
    """When it cannot even be looked what came of a create, nothing is sent blindly (pain 14)."""
    desk.add(lose_answer(path=JIT), answer(503, times=None))
    with pytest.raises(Unreachable):
        desk.client().register(NAME, LABELS)
    assert len(desk.calls("POST")) == 1


@pytest.mark.parametrize("content", [{}, {"token": ""}, {"token": None}, {"token": 5}])
def test_registration_without_a_token(desk: Desk, content: object) -> None:
    """A 201 without a registration token is Unreachable, not a registration (pain 19)."""
    desk.add(answer(201, content, times=None))
    with pytest.raises(Unreachable, match="unexpected shape"):
        desk.client().registration(NAME, LABELS, "")


@pytest.mark.parametrize("fault", [lose_answer(), drop(), answer(502)])
def test_lost_answer_to_a_delete(desk: Desk, fault: Rule) -> None:
    """A delete whose answer is lost is done when it returns (pain 14)."""
    runner = by_hand(desk)
    desk.add(fault)
    desk.client().delete(runner)
    assert desk.names() == []


# Absent, or not for our eyes (pain 13)


def test_deleted_runner(desk: Desk) -> None:
    """A runner that is gone is Absent; deleting it again is a success, for one call more."""
    client = desk.client()
    client.delete(99)
    with pytest.raises(Absent):
        client.runner(99)
    assert [request.target for request in desk.calls()] == [
        f"{RUNNERS}/99",
        f"{RUNNERS}?per_page=1",
        f"{RUNNERS}/99",
    ]
    assert client.counted == 3


def test_stop_counts_two(desk: Desk) -> None:
    """Deleting and reading that it is gone count two requests: a delete shows what it may see."""
    client = desk.client()
    client.delete(by_hand(desk))
    with pytest.raises(Absent):
        client.runner(1)
    assert client.counted == 2


@pytest.mark.parametrize("operation", ["delete", "runner"])
def test_token_without_access(desk: Desk, operation: str) -> None:
    """A 404 to a token that may not see the repository is Forbidden, not "gone" (pain 13)."""
    by_hand(desk)
    stranger = desk.state.issue(credentials.classic("octo/elsewhere"))
    with pytest.raises(Forbidden, match=r"404.*needs the scope `repo`"):
        OPERATIONS[operation](desk.client(stranger))
    assert desk.names() == [NAME]


@pytest.mark.parametrize("operation", ["delete", "runner"])
def test_access_lost_meanwhile(desk: Desk, operation: str) -> None:
    """An answer shows access for a while only: one that is lost later is noticed (pain 13)."""
    client = desk.client()
    by_hand(desk)
    client.runner(1)
    desk.add(answer(404, NOT_FOUND, times=None))
    desk.clock.sleep(SIGHT_SECONDS + 1)
    with pytest.raises(Forbidden):
        OPERATIONS[operation](client)


@pytest.mark.parametrize(
    "operation", ["run", "jobs", "jobs_of_attempt", "runs_that_are", "cancel", "force_cancel"]
)
def test_run_without_access(desk: Desk, operation: str) -> None:
    """A run that the token may not see is not a run that is gone (pain 13)."""
    stranger = desk.state.issue(credentials.classic("octo/elsewhere"))
    with pytest.raises(Forbidden, match="actions: read"):
        OPERATIONS[operation](desk.client(stranger))


def test_run_that_is_gone(desk: Desk) -> None:
    """A run that nobody knows is Absent to those who see the others."""
    with pytest.raises(Absent):
        desk.client().run("99")


LIST = r"per_page=1$"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (answer(500, path=LIST, times=None), Unreachable),
        (answer(429, path=LIST, times=None), Limited),
        (drop(path=LIST, times=None), Unreachable),
        (answer(403, path=LIST, times=None), Forbidden),
    ],
)
def test_doubt_is_not_absence(desk: Desk, fault: Rule, kind: type[GitHubError]) -> None:
    """When the list that would tell cannot be read either, nothing is taken for gone (pain 13)."""
    desk.add(fault)
    with pytest.raises(kind):
        desk.client(patience=20).delete(99)


def test_busy_runner(desk: Desk) -> None:
    """A runner with a job is Busy, and stays (a working runner is killed, pain 9)."""
    runner = by_hand(desk, online=True)
    desk.state.set_runner(runner, job_id=5)
    with pytest.raises(Busy, match="currently running a job"):
        desk.client().delete(runner)
    assert desk.names() == [NAME]


def test_other_refusals_are_not_busy(desk: Desk) -> None:
    """Another 422 on a delete is Refused: waiting for a job to end would not help."""
    desk.add(answer(422, {"message": "Validation Failed"}))
    with pytest.raises(Refused) as raised:
        desk.client().delete(1)
    assert not isinstance(raised.value, Busy)


# Runs are read with the job's own token first


def test_job_token_reads_runs(desk: Desk) -> None:
    """The job's own token reads runs, so that the other one need not be able to."""
    job = desk.state.issue(credentials.job_token(REPOSITORY, actions="read"))
    only_runners = desk.state.issue(credentials.fine_grained(REPOSITORY, administration="write"))
    client = desk.client(only_runners, run_token=job)
    assert client.jobs(str(RUN)) == []
    assert client.counted == 1


@pytest.mark.parametrize("trouble", ["no right", "limited", "elsewhere"])
def test_other_token_reads_runs(desk: Desk, trouble: str) -> None:
    """Where the job's own token may not, or has used up its limit, the other one reads."""
    own = credentials.job_token("octo/elsewhere" if trouble == "elsewhere" else REPOSITORY)
    job = desk.state.issue(own)
    if trouble == "limited":
        desk.state.set_remaining(0, reset_in=2400, token=job)
    client = desk.client(run_token=job)
    assert client.run(str(RUN)).id == RUN
    assert client.counted == 2


def test_cancel_that_is_too_late(desk: Desk) -> None:
    """A 409 of a run that is over is a success; of one that is not, a Conflict."""
    desk.state.set_run(RUN, status="completed", conclusion="success")
    desk.client().cancel(str(RUN))
    desk.state.set_run(RUN, status="queued", conclusion=None)
    desk.add(answer(409, {"message": "has not been queued yet"}))
    with pytest.raises(Conflict, match="not been queued"):
        desk.client().cancel(str(RUN))


# Runs and their jobs


def test_what_is_read_of_a_run_and_its_jobs(desk: Desk) -> None:
    """Attempt, event and times, in seconds since the epoch; of a queued job, when that began."""
    begin = desk.clock.now()
    desk.state.start_run(REPOSITORY, 9, name="nightly", event="schedule")
    desk.clock.sleep(60)
    desk.state.set_run(9, attempt=2, started_at=desk.clock.now())
    desk.state.queue_job(9, "test", ["gpu", "A100"])
    client = desk.client()
    [run] = [each for each in client.runs_that_are("queued") if each.id == 9]
    assert run == client.run("9")
    assert (run.attempt, run.name, run.event, run.status) == (2, "nightly", "schedule", "queued")
    assert (run.created_at, run.started_at, run.over) == (begin, begin + 60, False)
    [job] = client.jobs("9")
    assert (job.attempt, job.labels, job.runner_name) == (2, frozenset({"gpu", "A100"}), "")
    assert (job.created_at, job.started_at) == (begin + 60, begin + 60)


def test_jobs_of_an_earlier_attempt(desk: Desk) -> None:
    """What came after it does not hide them; an attempt that is not there is Absent."""
    first = desk.state.queue_job(RUN, "test", ["gpu"])
    desk.state.set_run(RUN, attempt=2)
    second = desk.state.queue_job(RUN, "test", ["gpu"])
    client = desk.client()
    found = [[job.id for job in client.jobs_of_attempt(str(RUN), each)] for each in ("1", "2")]
    assert found == [[first.id], [second.id]]
    assert [job.id for job in client.jobs(str(RUN))] == [second.id]
    with pytest.raises(Absent):
        client.jobs_of_attempt(str(RUN), "3")


@pytest.fixture
def short_listings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing with a filter ends after 200 runs: the same with fewer runs to make."""
    monkeypatch.setattr("gpu_ci_sandbox.fake_github.rest_runs.MAX_FILTERED", 200)
    monkeypatch.setattr("gpu_ci.github.listings.MOST_FILTERED", 200)


def batches(desk: Desk, *sizes: int) -> int:
    """Start runs in batches that are ten seconds apart; return how many there are now."""
    for size in sizes:
        desk.clock.sleep(10)
        desk.state.start_runs(REPOSITORY, size, {})
    return 1 + sum(sizes)


@pytest.mark.usefixtures("short_listings")
def test_runs_beyond_the_end_of_a_listing(desk: Desk) -> None:
    """A listing with a filter ends after a thousand: it goes on with what is older, and gives each
    run once, the newest first (only page one: pain 20)."""
    number = batches(desk, 140, 140, 20)
    found = [run.id for run in desk.client().runs_that_are("queued")]
    assert (len(found), len(set(found))) == (number, number)
    assert found[-1] == RUN
    assert found[:-1] == sorted(found[:-1], reverse=True)
    windows = [request.query.partition("&")[0] for request in desk.calls()]
    assert [each for each in windows if each.startswith("created")] == [
        "created=%3C%3D2027-01-15T08%3A00%3A10Z"
    ] * 2


@pytest.mark.usefixtures("short_listings")
def test_runs_that_just_fill_a_listing(desk: Desk) -> None:
    """What is behind is asked for, and there is nothing."""
    assert batches(desk, 100, 99) == 200
    assert len(list(desk.client().runs_that_are("queued"))) == 200


@pytest.mark.usefixtures("short_listings")
def test_too_many_runs_of_one_second_come_to_an_end(desk: Desk) -> None:
    """Time cannot tell them apart: what can be listed is given, and it is not asked for ever."""
    batches(desk, 250)
    assert len(list(desk.client().runs_that_are("queued"))) == 200
    assert len(desk.calls()) == 4


def test_a_listing_is_as_long_as_github_says() -> None:
    """The client's number is the stand-in's, which is that of GitHub's documentation."""
    assert (MOST_FILTERED, MAX_FILTERED) == (1000, 1000)


def test_runs_before_an_error_count(desk: Desk) -> None:
    """They come page by page, and only then the error (a 403 killed the sweep: pain 4)."""
    batches(desk, 150)
    desk.add(answer(500, path="page=2", times=None))
    runs = desk.client().runs_that_are("queued")
    assert len([next(runs) for _ in range(100)]) == 100
    with pytest.raises(Unreachable):
        next(runs)


def test_runs_of_a_status_alone(desk: Desk) -> None:
    """One that waits for an approval is not among those that are queued."""
    desk.state.start_run(REPOSITORY, 9)
    desk.state.queue_job(9, "test", ["gpu"], status="waiting")
    statuses = ("queued", "waiting", "pending", "in_progress", "completed")
    client = desk.client()
    found = {each: [run.id for run in client.runs_that_are(each)] for each in statuses}
    assert found == {
        "queued": [RUN],
        "waiting": [9],
        "pending": [],
        "in_progress": [],
        "completed": [],
    }


# What is left to others, and what is remembered


def test_a_part_of_the_limit_is_spared_on_each_line(desk: Desk) -> None:
    """Reading goes on with the other token where one line has only its reserve left."""
    job = desk.state.issue(credentials.job_token(REPOSITORY, actions="read"))
    desk.state.set_remaining(200, token=job)
    client = desk.client(run_token=job)
    client.spare(0.2)
    client.run(str(RUN))
    assert client.jobs(str(RUN)) == client.jobs_of_attempt(str(RUN), "1") == []
    left = [desk.state.limits.window(*each).remaining for each in ((job, 1000), (desk.admin, 5000))]
    assert left == [199, 4998]
    client.spare(0.0)
    list(client.runs_that_are("queued"))
    assert desk.state.limits.window(job, 1000).remaining == 198


def test_answers_are_shared_between_passes(desk: Desk) -> None:
    """A client that is given the answers of another one asks whether they are still true, and that
    costs nothing (rate limits: pain 18)."""
    known: dict[str, Answer] = {}
    desk.state.queue_job(RUN, "test", ["gpu"])
    for _ in range(3):
        client = desk.client()
        client.share(known)
        [job] = client.jobs(str(RUN))
        assert (job.name, len(client.runners())) == ("test", 0)
    assert [request.status for request in desk.calls()] == [200, 200, 304, 304, 304, 304]
    assert desk.state.counted_calls == 2


def test_what_is_remembered_is_small(desk: Desk) -> None:
    """Of a run and of a job only what is read is kept: an answer of a hundred is long."""
    known: dict[str, Answer] = {}
    desk.state.queue_job(RUN, "test", ["gpu"])
    client = desk.client()
    client.share(known)
    client.jobs(str(RUN))
    list(client.runs_that_are("queued"))
    (_, jobs), (_, runs) = sorted((url, known[url].data) for url in known)
    if "workflow_runs" in jobs:
        jobs, runs = runs, jobs
    assert len(jobs["jobs"][0]) == 9
    assert set(runs["workflow_runs"][0]) == {
        "id", "run_attempt", "status", "conclusion", "name", "event", "created_at",
        "run_started_at",
    }  # fmt: skip


# Rights, with words for each kind of token (pain 17)

KINDS = {
    "ghp_": credentials.classic(REPOSITORY, admin=False),
    "github_pat_": credentials.fine_grained(REPOSITORY),
    "ghs_": credentials.job_token(REPOSITORY, actions="write"),
}
NEEDS = {
    ("ghp_", False): r"classic token \(ghp_\) needs the scope `repo`",
    ("ghp_", True): r"classic token \(ghp_\) needs the scope `admin:org`",
    ("github_pat_", False): r"fine-grained token \(github_pat_\) needs Administration: write",
    ("github_pat_", True): r"fine-grained token .* organisation permission Self-hosted runners",
    ("ghs_", False): r"GITHUB_TOKEN \(ghs_\) can never administer runners.*Administration: write",
    ("ghs_", True): r"GITHUB_TOKEN \(ghs_\) can never administer runners.*Self-hosted runners",
}
ASKED_OF_RUNNERS = ("runner_builds", "register", "registration", "runners", "delete", "runner")


@pytest.mark.parametrize("operation", ASKED_OF_RUNNERS)
@pytest.mark.parametrize(("prefix", "organisation"), NEEDS)
def test_rights_that_are_missing(
    desk: Desk, prefix: str, operation: str, organisation: bool
) -> None:
    """A token without the right is told what its kind needs, by every question (pain 17)."""
    token = desk.state.issue(KINDS[prefix])
    scope = ORGANISATION if organisation else f"repos/{REPOSITORY}"
    by_hand(desk)
    desk.state.register("octo", NAME, LABELS)
    with pytest.raises(Forbidden, match=f"answered 403, .*{NEEDS[prefix, organisation]}") as raised:
        OPERATIONS[operation](desk.client(token, scope=scope))
    others = {"ghp_", "github_pat_"} - {prefix}
    assert not [other for other in others if other in raised.value.cure]


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("token", ["ghp_x", "github_pat_x", "ghs_x", "v1.of-another-kind"])
def test_words_for_each_refusal(desk: Desk, token: str, status: int) -> None:
    """Each code and kind of token has its own cure; an unknown kind gets all of them (pain 17)."""
    desk.add(answer(status, {"message": "No."}, times=None))
    with pytest.raises(Forbidden, match=f"answered {status}") as raised:
        desk.client(token).runner_builds()
    cure = raised.value.cure
    assert ("wrong, revoked or expired" in cure) == (status == 401)
    kinds = {kind for kind in ("ghp_", "github_pat_", "ghs_") if _is_for(kind, cure, status)}
    known = {kind for kind in ("ghp_", "github_pat_", "ghs_") if token.startswith(kind)}
    assert kinds == (known or {"ghp_", "github_pat_", "ghs_"})


def _is_for(kind: str, cure: str, status: int) -> bool:
    """Say whether a cure speaks of this kind of token."""
    names = {"ghp_": "Tokens (classic)", "github_pat_": "Fine-grained tokens", "ghs_": "ghs_"}
    return (names[kind] if status == 401 else kind) in cure


POLICIES = {
    "Resource protected by organization SAML enforcement.": "Configure SSO",
    "the `octo` organization has an IP allow list enabled": "Only listed addresses",
    "Repository was archived so is read-only.": "Unarchive",
    "`octo` forbids access via a personal access token (classic).": "does not take this kind",
    "This installation has been suspended": "unsuspend",
}


@pytest.mark.parametrize("message", POLICIES)
def test_policies(desk: Desk, message: str) -> None:
    """What an organisation forbids to any token has its own cure, not that of rights (pain 17)."""
    desk.add(answer(403, {"message": message}, times=None))
    with pytest.raises(Forbidden) as raised:
        desk.client().runners()
    assert POLICIES[message] in raised.value.cure
    assert "needs the scope" not in raised.value.cure


def test_single_sign_on(desk: Desk) -> None:
    """The header of single sign-on is understood; its one-time address is not printed (pain 17)."""
    sso = "required; url=https://github.com/orgs/octo/sso?authorization_request=A1B2C3"
    desk.add(answer(403, {"message": "Forbidden"}, headers={"X-GitHub-SSO": sso}, times=None))
    with pytest.raises(Forbidden, match="Configure SSO") as raised:
        desk.client().runner_builds()
    assert "A1B2C3" not in str(raised.value)


def test_secondary_limit_is_not_a_right(desk: Desk) -> None:
    """A 403 that is a limit is waited for, not explained as a missing right (pain 18)."""
    desk.state.set_secondary(retry_after=9)
    assert desk.client().runner_builds()
    assert desk.clock.slept == [9]


# Pages (pain 20) and many dead registrations (pain 15)


def crowd(desk: Desk, number: int) -> None:
    for index in range(number):
        desk.state.register(REPOSITORY, f"stale-{index}", ["x"])


def test_all_pages(desk: Desk) -> None:
    """All pages are read; the second reading, for what moved meanwhile, is free
    (only page one, pain 20; dead registrations pile up, pain 15)."""
    crowd(desk, 250)
    by_hand(desk)
    client = desk.client()
    names = [each.name for each in client.runners()]
    assert (len(names), names[-1]) == (251, NAME)
    assert client.counted == 3


def test_stop_removes_only_ours(desk: Desk) -> None:
    """Of 250 dead registrations a stop removes those of its run, whatever the others are called
    (dead registrations pile up, pain 15)."""
    crowd(desk, 240)
    foreign = ["gpu-ci-77-1-x", "gpu-ci-8-1-x", "my-gpu-ci-7-1-x", "gpu-ci", "gpu-ci-7"]
    for name in [*foreign, *(f"gpu-ci-7-{attempt}-start" for attempt in range(1, 6))]:
        desk.state.register(REPOSITORY, name, ["x"])
    env = {"GITHUB_REPOSITORY": REPOSITORY, "GITHUB_RUN_ID": str(RUN), "GITHUB_JOB": "stop"}
    inputs = {"provider": "local", "github-token": desk.admin, "github-api-url": desk.hub.url}
    stop(env | {variable(name): value for name, value in inputs.items()}, desk.clock)
    assert desk.names() == [*(f"stale-{index}" for index in range(240)), *foreign]


def test_search_on_page_three(desk: Desk) -> None:
    """Before a server that does not know the filter by name, all pages are searched (pain 20)."""
    crowd(desk, 250)
    runner = by_hand(desk)

    def old_server(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        query = re.sub(r"name=[^&]*&", "", environ["QUERY_STRING"])
        return desk.hub.faults(environ | {"QUERY_STRING": query}, start)

    with Server(old_server) as server:
        found = desk.client(api_url=server.url).runner_named(NAME)
        assert found
        assert found.id == runner
        assert desk.client(api_url=server.url).runner_named("gpu-ci-7-1") is None


def test_total_count_that_is_too_high(desk: Desk) -> None:
    """A total of more than the pages give does not lead to pages without end (pain 20)."""
    runner = {"id": 1, "name": "r", "status": "offline", "busy": False, "labels": []}
    desk.add(answer(200, {"total_count": 250, "runners": [runner]}, times=None))
    assert [each.id for each in desk.client().runners()] == [1]
    assert len(desk.calls()) == 1


def test_empty_page_is_the_last(desk: Desk) -> None:
    """An empty page ends the list, whatever it links (pain 20)."""
    link = {"Link": f'<{desk.hub.url}{RUNNERS}?page=2>; rel="next"'}
    desk.add(answer(200, {"total_count": 9, "runners": []}, headers=link, times=None))
    assert desk.client().runners() == []
    assert len(desk.calls()) == 1


def test_list_that_moves_up(desk: Desk) -> None:
    """A runner that slips to a page already read, when another goes, is found (pain 20)."""
    crowd(desk, 150)

    def one_goes(number: int, phase: str, request: Request) -> None:
        if phase == "after" and number == 1:
            desk.state.runners.remove(1)

    desk.hub.faults.on_request(one_goes)
    found = {runner.name for runner in desk.client().runners()}
    assert {f"stale-{index}" for index in range(1, 150)} <= found


def test_list_that_moves_down(desk: Desk) -> None:
    """A runner that slips from one page to the next while they are read counts once (pain 20)."""
    crowd(desk, 150)
    client = desk.client()
    again = client.line.get(RUNNERS, per_page=PAGE, page=1).data["runners"][-1:]
    desk.add(answer(200, {"total_count": 150, "runners": again}, path=r"[?&]page=2&"))
    ids = [runner.id for runner in client.runners()]
    assert sorted(ids) == list(range(1, 151))


def test_list_without_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that always links a next page is Unreachable in the end, not asked for ever."""
    monkeypatch.setattr("gpu_ci.github.listings.MOST_PAGES", 5)
    runner = {"id": 1, "name": "r", "status": "offline", "busy": False, "labels": []}
    link = {"Link": f'<{desk.hub.url}{RUNNERS}>; rel="next"'}
    desk.add(answer(200, {"runners": [runner]}, headers=link, times=None))
    with pytest.raises(Unreachable, match="more than 5 pages"):
        desk.client().runners()
    assert len(desk.calls()) == 5
    assert MOST_PAGES * PAGE >= 10_000  # what a runner group may hold


def test_linked_address_is_not_followed(desk: Desk) -> None:
    """A next page on another server is not asked there: it would get the token (pain 20)."""
    crowd(desk, 3)
    with github_desk() as other:
        link = {"Link": f'<{other.hub.url}{RUNNERS}?page=2>; rel="next"'}
        runner = {"id": 1, "name": "r", "status": "offline", "busy": False, "labels": []}
        desk.add(answer(200, {"runners": [runner]}, headers=link))
        assert [each.id for each in desk.client().runners()] == [1]
        assert (len(desk.calls()), len(other.calls())) == (2, 0)


def test_jobs_of_all_pages(desk: Desk) -> None:
    """A run of more than a hundred jobs is read whole, its latest attempt only (pain 20)."""
    for index in range(205):
        desk.state.queue_job(RUN, f"leg {index}", ["gpu"])
    jobs = desk.client().jobs(str(RUN))
    assert [job.name for job in jobs] == [f"leg {index}" for index in range(205)]
    assert [request.target.partition("?")[2] for request in desk.calls()] == [
        f"filter=latest&page={page}&per_page=100" for page in (1, 2, 3)
    ]


def test_page_that_fails(desk: Desk) -> None:
    """A page that cannot be read fails the whole list: a part is never taken for it (pain 20)."""
    crowd(desk, 150)
    desk.add(answer(500, path=r"[?&]page=2&", times=None))
    with pytest.raises(Unreachable):
        desk.client().runners()


@pytest.mark.parametrize(
    ("api", "web"),
    [
        ("https://api.github.com", "https://github.com"),
        ("https://api.octo.ghe.com", "https://octo.ghe.com"),
        ("https://ghes.example/api/v3", "https://ghes.example"),
    ],
)
def test_web_root(api: str, web: str) -> None:
    """`config.sh` is told the web address that belongs to the API's."""
    assert _web_root(api) == web
