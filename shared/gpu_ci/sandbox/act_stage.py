"""The folders of one run under act: a repository with the copy, the actions, and a home."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpu_ci.sandbox import act_job
from gpu_ci.sandbox.act_copy import LABEL, SELF_REF, Place
from gpu_ci.sandbox.demo import gpus_here
from gpu_ci.sandbox.world import PASSED_ON, REPOSITORY, ROOT, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_ci.sandbox.act_copy import Copy

WORKFLOWS: Final = Path(".github/workflows")
# What an action needs of the checkout. act copies the folder for each use, so it is kept small.
ACTION_PARTS: Final = ("action-*", "shared", "pyproject.toml", "uv.lock")
FILES: Final = {"secret": "secrets", "var": "vars", "env": "env", "input": "input"}
# No setting of the user's git may reach the copy: hooks, signing, templates.
GIT: Final = ("git", "-c", "user.name=gpu-ci", "-c", "user.email=gpu-ci@localhost")
GIT_ENV: Final = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run of `file`; `ends` is where jobs tell rented runners that they are over."""

    world: World
    file: Path
    folder: Path
    ends: Path

    @classmethod
    def build(cls, world: World, file: Path) -> Stage:
        """Make the folders. Those that the runner's user must see are not below `folder`."""
        folder = Path(tempfile.mkdtemp(prefix="act-", dir=world.folder))
        ends = Path(tempfile.mkdtemp(prefix="ends-", dir=world.machines_folder))
        ends.chmod(0o711)
        for name in ("tree", "home", "cache/act"):
            (folder / name).mkdir(parents=True)
        return cls(world=world, file=file.absolute(), folder=folder, ends=ends)

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    def place(self) -> Place:
        """Copy the repository that the file is in, and say where the copy will run."""
        _copy_tree(self.file.parent, self.tree)
        told = {"URL": self.world.served.url, "RUN": str(self.world.run_id), "ENDS": str(self.ends)}
        return Place(
            actions=ROOT,
            tree=self.tree,
            options=self.world.local_options(),
            gpus="" if gpus_here() else "0",
            python=sys.executable,
            script=act_job.__file__,
            env=told,
        )

    def lay_out(self, copy: Copy) -> None:
        """Write what act reads: the copy in a repository with one commit, secrets, variables."""
        workflow = self.tree / WORKFLOWS / self.file.name
        workflow.parent.mkdir(parents=True, exist_ok=True)
        workflow.write_text(copy.content)
        _commit(self.tree, f"{self.world.served.url}/{REPOSITORY}")
        _copy_actions(self.folder / "actions")
        self._keep_environment()
        secrets = dict.fromkeys(copy.secrets, self.world.token)
        self._write("secrets", {**secrets, "GITHUB_TOKEN": self.world.run_token})
        self._write("vars", {name: os.environ.get(name, "") for name in copy.variables})
        self._write("env", self._told())
        self._write("input", {})

    def _told(self) -> dict[str, str]:
        return {
            "GITHUB_API_URL": self.world.served.url,
            "GITHUB_SERVER_URL": self.world.served.url,
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": str(self.world.run_id),
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
            f"--concurrent-jobs={max(2, len(copy.jobs))}",
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
        ["init", "-q", "-b", "main", "--template="],
        ["remote", "add", "origin", origin],
        ["add", "--all"],
        ["commit", "-q", "-m", "The copy"],
    ):
        subprocess.run([*GIT, *arguments], cwd=tree, env=_without_git() | GIT_ENV, check=True)


def _without_git() -> dict[str, str]:
    """Return the environment without what points git elsewhere, as in a hook of another one."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def _copy_actions(into: Path) -> None:
    into.mkdir()
    for source in (source for part in ACTION_PARTS for source in ROOT.glob(part)):
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, into / source.name, ignore=ignored)
        else:
            shutil.copy2(source, into / source.name)
