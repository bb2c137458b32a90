"""The folders of one run under act: a repository with the copy, the actions, and a home."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpu_ci_sandbox.act import job_steps
from gpu_ci_sandbox.act.local_profiles import FILE, for_this_machine
from gpu_ci_sandbox.act.references import SELF_REF
from gpu_ci_sandbox.act.runnable_steps import Place
from gpu_ci_sandbox.act.workflow_copy import LABEL
from gpu_ci_sandbox.fake_github.credentials import job_token
from gpu_ci_sandbox.timeline import gpus_here
from gpu_ci_sandbox.world import PASSED_ON, REPOSITORY, ROOT, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_ci_sandbox.act.references import Origin
    from gpu_ci_sandbox.act.workflow_copy import Copy, Kept

WORKFLOWS: Final = Path(".github/workflows")
BRANCH: Final = "main"
# What an action needs of the checkout. act copies the folder for each use, so it is kept small.
ACTION_PARTS: Final = ("action-*", "shared", "sandbox", "pyproject.toml", "uv.lock")
# Jobs of a matrix that run at once, at least: each may wait for another one.
LEGS: Final = 4
# What every job's own token may: act gives all of them the same one, whatever their permissions.
RIGHTS: Final = {
    "actions": "write", "checks": "read", "contents": "read", "issues": "write",
    "pull_requests": "write",
}  # fmt: skip
FILES: Final = {"secret": "secrets", "var": "vars", "env": "env"}
# No setting of the user's git may reach the copy: hooks, signing, templates.
GIT: Final = ("git", "-c", "user.name=gpu-ci", "-c", "user.email=gpu-ci@localhost")
GIT_ENV: Final = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """What sets a run off.

    `event` is by default the first that the workflow listens to and the demo can send, `payload` what
    GitHub would write to the event's file, `inputs` those of a workflow_dispatch, `env` what the
    runner would set as well. In an attempt after the first the jobs in `kept` are not run again.
    """

    event: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    attempt: int = 1
    kept: Mapping[str, Kept] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run of `file`; `ends` is where jobs tell rented runners that they are over."""

    world: World
    file: Path
    trigger: Trigger
    folder: Path
    ends: Path

    @classmethod
    def build(cls, world: World, file: Path, trigger: Trigger) -> Stage:
        """Make the folders. Those that the runner's user must see are not below `folder`."""
        folder = Path(tempfile.mkdtemp(prefix="act-", dir=world.folder))
        ends = Path(tempfile.mkdtemp(prefix="ends-", dir=world.machines_folder))
        ends.chmod(0o711)
        for name in ("tree", "home", "cache/act", "ended"):
            (folder / name).mkdir(parents=True)
        return cls(world=world, file=file.absolute(), trigger=trigger, folder=folder, ends=ends)

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    def place(self) -> Place:
        """Copy the repository that the file is in, and say where the copy will run."""
        _copy_tree(self.file.parent, self.tree)
        told = {
            "URL": self.world.served.url,
            "RUN": str(self.world.run_id),
            "ENDS": str(self.ends),
            "ENDED": str(self.folder / "ended"),
        }
        return Place(
            actions=ROOT,
            tree=self.tree,
            options=self.world.local_options(),
            gpus="" if gpus_here() else "0",
            python=sys.executable,
            script=job_steps.__file__,
            env=told,
        )

    def lay_out(self, copy: Copy) -> None:
        """Write what act reads: the copies in repositories, one with a commit, and what they name."""
        _write_file(self.tree / WORKFLOWS / self.file.name, copy.content)
        for called, content in copy.called.items():
            _write_file(self._repository(called.origin) / called.path, content)
        self._commit_tree()
        _copy_actions(self.folder / "actions")
        self._keep_environment()
        secrets = dict.fromkeys(copy.secrets, self.world.token)
        token = self.world.served.github.issue(job_token(REPOSITORY, **RIGHTS))
        self._write("secrets", {**secrets, "GITHUB_TOKEN": token})
        self._write("vars", {name: os.environ.get(name, "") for name in copy.variables})
        self._write("env", self._told())
        (self.folder / "event.json").write_text(json.dumps(self._payload()))

    def _commit_tree(self) -> None:
        """Make the tree's one commit, whose profiles the stand-in for GitHub can show."""
        profiles = self.tree / FILE
        if profiles.is_file():
            profiles.write_text(for_this_machine(profiles.read_text()))
        _commit(self.tree, f"{self.world.served.url}/{REPOSITORY}")
        if profiles.is_file():
            commit = _git(self.tree, "rev-parse", "HEAD").strip()
            contents = self.world.served.github.contents
            contents.put(REPOSITORY, commit, FILE, profiles.read_text())

    def _payload(self) -> dict[str, Any]:
        here = self.world.served.github.repositories[REPOSITORY]
        told = {"full_name": REPOSITORY, "default_branch": BRANCH, "private": here.private}
        inputs = {"inputs": dict(self.trigger.inputs)} if self.trigger.inputs else {}
        return {"repository": told, **inputs, **self.trigger.payload}

    def _repository(self, origin: Origin) -> Path:
        return self.folder / "actions" if origin.shipped else self.tree

    def _told(self) -> dict[str, str]:
        return {
            **self.trigger.env,
            "GITHUB_API_URL": self.world.served.url,
            "GITHUB_SERVER_URL": self.world.served.url,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": str(self.world.run_id),
            "GITHUB_RUN_ATTEMPT": str(self.trigger.attempt),
        }

    def _write(self, name: str, values: Mapping[str, str]) -> None:
        # act reads YAML where the name says so, and JSON is YAML: nothing needs quoting.
        path = self.folder / f"{name}.yml"
        path.touch(mode=0o600)
        path.write_text(json.dumps(values))

    def _keep_environment(self) -> None:
        """Let the actions find the Python environment that shared/run keeps on this machine."""
        kept = os.environ.get("RUNNER_TOOL_CACHE") or os.environ.get("XDG_CACHE_HOME")
        cache = Path(kept) if kept else Path.home() / ".cache"
        if cache.is_dir():
            (self.folder / "cache" / "act" / "tool_cache").symlink_to(cache.resolve())

    def arguments(self, copy: Copy) -> list[str]:
        """Return act's arguments."""
        folders = dict.fromkeys(sorted(copy.references), self.folder / "actions")
        folders[f"{REPOSITORY}@{SELF_REF}"] = self.tree
        return [
            copy.event,
            "--json",
            "--no-cache-server",
            f"--platform={LABEL}=-self-hosted",
            f"--concurrent-jobs={max(2, LEGS * len(copy.jobs))}",
            f"--eventpath={self.folder / 'event.json'}",
            f"--directory={self.tree}",
            f"--workflows={WORKFLOWS / self.file.name}",
            *(f"--{flag}-file={self.folder / name}.yml" for flag, name in FILES.items()),
            *(f"--local-repository={name}={folder}" for name, folder in folders.items()),
        ]

    def env(self) -> dict[str, str]:
        """Return act's environment, all of which reaches the steps: nothing of the user's keys."""
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        passed.pop("RUNNER_TOOL_CACHE", None)
        home, cache = self.folder / "home", self.folder / "cache"
        return {**passed, "HOME": str(home), "XDG_CACHE_HOME": str(cache)}


def _copy_tree(folder: Path, into: Path) -> None:
    """Copy the repository around a folder, without what git ignores; nothing where there is none."""
    top = _git(folder, "rev-parse", "--show-toplevel").strip()
    if not top:
        return
    listed = _git(Path(top), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        source = Path(top, name)
        if source.is_symlink() or source.is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, into / name, follow_symlinks=False)


def _git(folder: Path, *arguments: str) -> str:
    """Return what git prints, "" where it fails: there is no repository."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=_without_git(),
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode else done.stdout


def _commit(tree: Path, origin: str) -> None:
    """Make the tree a repository with one commit, which act asks for."""
    for arguments in (
        ["init", "-q", "-b", BRANCH, "--template="],
        ["remote", "add", "origin", origin],
        ["add", "--all"],
        ["commit", "-q", "-m", "The copy"],
    ):
        subprocess.run([*GIT, *arguments], cwd=tree, env=_without_git() | GIT_ENV, check=True)


def _without_git() -> dict[str, str]:
    """Return the environment without what points git elsewhere, as in a hook of another one."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def _write_file(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def _copy_actions(into: Path) -> None:
    into.mkdir(exist_ok=True)
    for source in (source for part in ACTION_PARTS for source in ROOT.glob(part)):
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "sandbox")
            shutil.copytree(source, into / source.name, ignore=ignored)
        else:
            shutil.copy2(source, into / source.name)
