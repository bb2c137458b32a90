"""What one pass remembers for the next: less to ask, never a wrong answer, never an error."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import REPOSITORY
from tests.watchdog.scene import LIMIT, Scene, label_of, name_of

from gpu_ci.errors import EnvironmentBroken
from gpu_ci.github.transport import Answer
from gpu_ci.watchdog.cache import LONGEST_RUN_SECONDS, VERSION, Cache

NOW = 1_800_000_000.0
FILE = "gpu-ci-watchdog-octo-widgets.json"
ANSWER = {"what": "GET /x", "data": {"runs": []}, "headers": {"etag": '"1"', "link": "<y>"}}
WHOLE: dict[str, Any] = {"version": VERSION, "answers": {"/x": ANSWER}, "held_until": {"5": NOW}}
ODD_ANSWERS: list[Any] = [
    [],
    7,
    {"/x": 7},
    {"/x": {}},
    {"/x": ANSWER | {"more": 1}},
    {"/x": ANSWER | {"what": 7}},
    {"/x": ANSWER | {"headers": {}}},
    {"/x": ANSWER | {"headers": "etag"}},
    {"/x": ANSWER | {"headers": ["etag"]}},
    {"/x": ANSWER | {"headers": {"etag": 7}}},
    {"/x": ANSWER | {"headers": {"etag": '"1"', "link": None}}},
]
ODD_TIMES: list[Any] = [[], 7, {"x": 1}, {"5": "soon"}, {"5": None}]


def load(folder: Path) -> Cache:
    return Cache.load(str(folder), REPOSITORY)


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    """Answers with what a 304 does not repeat, and until when jobs were held."""
    memory = load(tmp_path / "new" / "folder")
    headers = {"etag": '"1"', "link": "<y>", "x-ratelimit-remaining": "5"}
    memory.answers["/x"] = Answer(what="GET /x", data={"runs": []}, headers=headers)
    assert memory.answers.get("/x")
    memory.held_until[5] = NOW
    memory.save()
    [file] = (tmp_path / "new" / "folder").iterdir()
    assert (file.name, json.loads(file.read_text())) == (FILE, WHOLE)
    again = load(file.parent)
    assert again.answers["/x"].data == {"runs": []}
    assert again.answers["/x"].headers == {"etag": '"1"', "link": "<y>"}
    assert again.held_until == {5: NOW}


def test_repositories_do_not_share_a_file(tmp_path: Path) -> None:
    """One folder may serve several."""
    (tmp_path / FILE).write_text(json.dumps(WHOLE))
    assert load(tmp_path).answers
    assert not Cache.load(str(tmp_path), "octo/gadgets").answers


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        '"text"',
        "\x00\xff",
        "[" * 100_000,
        json.dumps(WHOLE)[:-20],
        json.dumps(WHOLE | {"version": VERSION + 1}),
        json.dumps({name: WHOLE[name] for name in ("version", "answers")}),
        json.dumps({name: WHOLE[name] for name in ("answers", "held_until")}),
        *(json.dumps(WHOLE | {"answers": each}) for each in ODD_ANSWERS),
        *(json.dumps(WHOLE | {"held_until": each}) for each in ODD_TIMES),
    ],
)
def test_another_file_is_forgotten(tmp_path: Path, text: str) -> None:
    """Empty, cut, somebody else's, of another version, edited: no error, and nothing of it is used;
    the next pass finds a good one."""
    (tmp_path / FILE).write_text(text, encoding="latin-1")
    memory = load(tmp_path)
    assert (dict(memory.answers), memory.held_until) == ({}, {})
    memory.save()
    assert json.loads((tmp_path / FILE).read_text()) == {
        "version": VERSION,
        "answers": {},
        "held_until": {},
    }


def test_a_folder_in_its_place_is_forgotten_too(tmp_path: Path) -> None:
    """And it cannot be written then, which is an error that names it."""
    (tmp_path / FILE).mkdir()
    memory = load(tmp_path)
    with pytest.raises(EnvironmentBroken, match=str(tmp_path)):
        memory.save()


def test_without_a_folder_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor read: an empty name is not the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / FILE).write_text(json.dumps(WHOLE))
    memory = Cache.load("", REPOSITORY)
    memory.held_until[6] = NOW
    memory.save()
    assert not memory.answers
    assert (tmp_path / FILE).read_text() == json.dumps(WHOLE)


def test_only_what_was_asked_for_is_kept(tmp_path: Path) -> None:
    """The answers about runs that are gone go with them."""
    answers = dict.fromkeys(("/old", "/asked"), ANSWER)
    (tmp_path / FILE).write_text(json.dumps(WHOLE | {"answers": answers}))
    memory = load(tmp_path)
    assert memory.answers.get("/asked")
    assert memory.answers.get("/unknown") is None
    memory.save()
    assert list(load(tmp_path).answers) == ["/asked"]


def test_jobs_of_ended_runs_are_forgotten(tmp_path: Path) -> None:
    """No run lasts longer than 35 days."""
    held = {"1": NOW - LONGEST_RUN_SECONDS, "2": NOW - LONGEST_RUN_SECONDS + 1, "3": NOW}
    (tmp_path / FILE).write_text(json.dumps(WHOLE | {"held_until": held}))
    memory = load(tmp_path)
    memory.save()
    assert set(load(tmp_path).held_until) == {2, 3}


def test_a_pass_that_cannot_write_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, or a kill in the middle."""
    (tmp_path / FILE).write_text(json.dumps(WHOLE))
    memory = load(tmp_path)

    def full(file: Path, _text: str) -> None:
        file.write_bytes(b"{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(EnvironmentBroken, match="No space left on device"):
        memory.save()
    assert json.loads((tmp_path / FILE).read_text()) == WHOLE
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_the_file_is_private(tmp_path: Path) -> None:
    """It tells of a private repository's runs: nobody else of the machine may read it."""
    load(tmp_path).save()
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


# In a pass


def test_a_pass_in_which_nothing_changed_costs_nothing(scene: Scene, tmp_path: Path) -> None:
    """Whatever number of runs and runners: each answer is unchanged, and a 304 counts nothing."""
    cache = {"cache_dir": str(tmp_path / "cache")}
    for run_id in range(11, 31):
        scene.state.set_job(scene.stuck(run_id).id, status="in_progress", runner_name="r")
    for index in range(150):
        scene.register(f"box-{index}", "x")
    scene.clock.sleep(LIMIT)
    assert scene.sweep(**cache).findings == []
    cold = scene.state.counted_calls
    assert scene.sweep(**cache).findings == []
    assert (cold, scene.state.counted_calls - cold) == (5 + 21 + 2, 0)


def test_a_change_is_seen_all_the_same(scene: Scene, tmp_path: Path) -> None:
    """What is remembered is asked for anew each time."""
    cache = {"cache_dir": str(tmp_path / "cache")}
    job = scene.stuck(11)
    scene.state.set_job(job.id, status="in_progress", runner_name="r")
    scene.clock.sleep(LIMIT)
    assert scene.sweep(**cache).findings == []
    scene.state.set_job(job.id, status="queued", runner_name=None)
    scene.clock.sleep(LIMIT)
    assert scene.sweep(**cache).done == {"run 11 (ci)": "cancelled"}


def test_a_cache_that_is_broken_is_no_error(scene: Scene, tmp_path: Path) -> None:
    """The pass asks for everything, and leaves a good one."""
    (tmp_path / FILE).write_text("{")
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    assert scene.sweep(cache_dir=str(tmp_path)).code == 0
    assert load(tmp_path).answers


def test_a_cache_that_cannot_be_written_fails_when_all_is_done(
    scene: Scene, tmp_path: Path
) -> None:
    """Exit code 50 and the folder's name; the run was cancelled and the registration removed."""
    (tmp_path / "file").touch()
    scene.stuck(11)
    scene.over(12)
    scene.clock.sleep(LIMIT)
    scene.register(name_of(12), label_of(12))
    told = scene.sweep(cache_dir=str(tmp_path / "file"))
    assert (told.code, told.ended()) == (50, ("1", "0", "1"))
    assert f"cache-dir {tmp_path / 'file'} cannot be written" in told.log


def test_what_was_read_before_a_limit_is_kept(scene: Scene, tmp_path: Path) -> None:
    """So that the next pass gets further: its first reads cost nothing."""
    cache = {"cache_dir": str(tmp_path / "cache"), "github_token": scene.job_token}
    for run_id in range(11, 17):
        scene.state.set_job(scene.stuck(run_id).id, status="in_progress", runner_name="r")
    scene.clock.sleep(LIMIT)
    scene.state.set_remaining(208, token=scene.job_token)
    assert "and of newer runs" in scene.sweep(**cache).unseen
    scene.state.set_remaining(208, token=scene.job_token)
    assert "newer runs" not in scene.sweep(**cache).unseen
