"""What may be released, and that each step of release.yml does what it says."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gpu_ci_sandbox.action_step import BASH

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
CHANGELOG = """\
# Changelog

## Unreleased

## 1.2.3 - 2026-12-01

### Added

- A thing.

## 1.2.2 - 2026-11-01

- An older thing.
"""


def loaded_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release = loaded_script()


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository whose main has two commits, the second one tagged v1.2.3."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    commit(folder, "first")
    git(folder, "tag", "older")
    (folder / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (folder / "CHANGELOG.md").write_text(CHANGELOG)
    commit(folder, "second")
    git(folder, "tag", "v1.2.3")
    git(folder, "update-ref", "refs/remotes/origin/main", "HEAD")
    return folder


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "--no-gpg-sign", "--allow-empty", "-m", message)


def problems(checkout: Path, tag: str = "v1.2.3") -> str:
    return "\n".join(release.problems(checkout, tag))


def test_a_tag_that_fits_may_be_released(checkout: Path) -> None:
    """Version, changelog and main agree, and v1 is behind it or not there yet."""
    assert problems(checkout) == ""
    git(checkout, "tag", "v1", "older")
    assert problems(checkout) == ""


@pytest.mark.parametrize("tag", ["v1.2", "1.2.3", "v1.2.3-rc1", "v1.2.3;id"])
def test_a_tag_of_another_form_is_refused(checkout: Path, tag: str) -> None:
    """Before it is used for anything."""
    assert "not of the form v1.2.3" in problems(checkout, tag)


def test_another_version_is_refused(checkout: Path) -> None:
    """The wheel would bear another number than the release."""
    (checkout / "pyproject.toml").write_text('[project]\nversion = "1.2.4"\n')
    assert problems(checkout) == (
        "pyproject.toml has version 1.2.4, the tag is v1.2.3. Make them the same."
    )


@pytest.mark.parametrize(
    ("title", "problem"),
    [
        ("## Unreleased\n\n- A thing.\n", "does not begin with '## 1.2.3 - YYYY-MM-DD'"),
        ("## 1.2.3\n\n- A thing.\n", "does not begin with"),
        ("## 1.2.2 - 2026-11-01\n\n- A thing.\n", "does not begin with"),
        ("## 1.2.3 - 2026-12-01\n\n## 1.2.2 - 2026-11-01\n", "says nothing of v1.2.3"),
    ],
)
def test_a_changelog_that_is_not_ready_is_refused(checkout: Path, title: str, problem: str) -> None:
    """Undated, of another version, or empty."""
    (checkout / "CHANGELOG.md").write_text(f"# Changelog\n\n{title}")
    assert problem in problems(checkout)


def test_a_commit_that_was_not_merged_is_refused(checkout: Path) -> None:
    """Whoever can push a tag cannot release what nobody has reviewed."""
    commit(checkout, "on a branch")
    git(checkout, "tag", "--force", "v1.2.3")
    assert problems(checkout) == "v1.2.3 is not on main. Tag a commit that was merged."


def test_the_major_version_never_moves_back(checkout: Path) -> None:
    """A release of an older line would take fixes away from those who use v1."""
    commit(checkout, "third")
    git(checkout, "tag", "v1")
    assert "v1 is not behind v1.2.3" in problems(checkout)


def test_the_notes_are_the_versions_own(checkout: Path) -> None:
    """Not those of the version before."""
    assert release.notes(checkout, "v1.2.3") == "### Added\n\n- A thing."


def test_every_problem_is_an_annotation(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the step fails."""
    monkeypatch.chdir(checkout)
    assert release.main("check", "v1.2.3") == 0
    assert release.main("check", "v1.2.4") == 1
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 3
    assert all(line.startswith("::error title=release::") for line in told)


# The workflow


def jobs() -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    return loaded


def before(job: str) -> set[str]:
    needed = jobs()[job].get("needs", [])
    names = {needed} if isinstance(needed, str) else set(needed)
    return names | {earlier for name in names for earlier in before(name)}


def test_nothing_is_published_before_everything_is_checked_and_approved() -> None:
    """Verified, tested, built, attested and drafted; then a person lets it out."""
    assert before("publish") == {"verify", "check", "build", "attest", "draft"}
    approved = {name for name, job in jobs().items() if job.get("environment") == "release"}
    assert approved == {"publish"}  # each job that names it waits for an approval of its own


def test_only_those_that_must_may_write() -> None:
    """What builds and tests, and so runs what others wrote, can change nothing."""
    writers = {
        name: sorted(scope for scope, level in job["permissions"].items() if level == "write")
        for name, job in jobs().items()
    }
    assert {name: scopes for name, scopes in writers.items() if scopes} == {
        "attest": ["attestations", "id-token"],
        "draft": ["contents"],
        "publish": ["contents"],
    }


def script(job: str, step: int = -1) -> str:
    """Return the script of a job's last step, or of another one."""
    return str(jobs()[job]["steps"][step]["run"])


def run_with_gh(text: str, tmp_path: Path, gh: str) -> tuple[int, list[str]]:
    """Run a step's script with a `gh` that notes how it was called and answers by `gh`'s cases."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gh").write_text(
        f'#!/bin/sh\necho "$*" >>"{tmp_path}/calls"\ncase "$*" in\n{gh}\nesac\n'
    )
    (programs / "gh").chmod(0o755)
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "a.whl").touch()
    env = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "GITHUB_REF_NAME": "v1.2.3",
        "GITHUB_REPOSITORY": "org/gpu-ci",
        "GITHUB_SHA": "abc",
    }
    done = subprocess.run([*BASH, "-c", text], cwd=tmp_path, env=env, check=False)
    return done.returncode, (tmp_path / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("gh", "code", "last"),
    [
        ('"release view"*) exit 1 ;;', 0, "release create v1.2.3 --draft --verify-tag"),
        ('"release view"*) echo true ;;', 0, "release upload v1.2.3 --clobber dist/a.whl"),
        ('"release view"*) echo false ;;', 1, "release view v1.2.3"),
    ],
)
def test_a_draft_is_made_or_filled_and_a_release_left_alone(
    tmp_path: Path, gh: str, code: int, last: str
) -> None:
    """A second attempt goes on where the first broke off; what is published is never changed."""
    returned, calls = run_with_gh(script("draft"), tmp_path, gh)
    assert returned == code
    assert calls[-1].startswith(last)


@pytest.mark.parametrize(
    ("draft", "code", "last"),
    [
        ("echo true", 0, "release edit v1.2.3 --draft=false --latest"),
        ("echo false", 0, "release view v1.2.3"),
        ("exit 1", 1, "release view v1.2.3"),
    ],
)
def test_a_release_is_published_once_and_before_the_tag_moves(
    tmp_path: Path, draft: str, code: int, last: str
) -> None:
    """A job that is run again does not make an old release the latest; nor does one that cannot look."""
    assert len(jobs()["publish"]["steps"]) == 2
    gh = f'"release view"*) {draft} ;;'
    returned, calls = run_with_gh(script("publish", 0), tmp_path, gh)
    assert returned == code
    assert calls[-1].startswith(last)


@pytest.mark.parametrize(
    ("gh", "last"),
    [
        (
            "*/ref/tags/v1*) exit 0 ;;",
            "api --method PATCH repos/org/gpu-ci/git/refs/tags/v1 -f sha=abc -F force=false --silent",
        ),
        (
            "*/ref/tags/v1*) exit 1 ;;",
            "api repos/org/gpu-ci/git/refs -f ref=refs/tags/v1 -f sha=abc --silent",
        ),
    ],
)
def test_the_major_tag_is_moved_or_made(tmp_path: Path, gh: str, last: str) -> None:
    """To the commit that was released; GitHub refuses to move it back, as an old run that is run
    again would."""
    returned, calls = run_with_gh(script("publish"), tmp_path, gh)
    assert (returned, calls[-1]) == (0, last)


def test_what_builds_the_wheel_is_pinned_by_its_hash() -> None:
    """It is the one thing of a release that uv.lock does not hold."""
    text = (ROOT / ".ci" / "build-constraints.txt").read_text()
    (version,) = re.findall(r"^uv-build==(\S+)", text, re.MULTILINE)
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    assert version == next(each["version"] for each in locked if each["name"] == "uv")
    assert re.findall(r"--hash=(?!sha256:[0-9a-f]{64}\b)", text) == []
    assert "--build-constraints .ci/build-constraints.txt --require-hashes" in str(jobs()["build"])
