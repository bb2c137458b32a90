"""What later steps of the job get: uv's folders together, and nothing that would mislead it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gpu_ci.runtime import workflow_commands

if TYPE_CHECKING:
    from pathlib import Path

    from gpu_ci.setup_uv.folders import Folders
    from gpu_ci.setup_uv.host import Host

# What a machine's own set-up leaves in every job, and uv or its Pythons would heed. Both treat empty
# as unset.
MISLEADING: Final = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME")


@dataclass(kw_only=True)
class Exports:
    """Variables and folders for PATH, the last one first; written all at once at the end.

    `silenced` says what was taken out, as NAME=VALUE.
    """

    host: Host
    variables: dict[str, str] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)
    silenced: list[str] = field(default_factory=list)

    def add_folders(self, folders: Folders) -> None:
        self.variables |= {
            "UV_CACHE_DIR": str(folders.cache),
            "UV_PYTHON_INSTALL_DIR": str(folders.pythons),
            "UV_TOOL_DIR": str(folders.tools),
            "UV_TOOL_BIN_DIR": str(folders.tool_bin),
        }
        self.path.append(str(folders.tool_bin))
        # uv would copy anyway, and warn; but somebody else may have chosen how to link.
        if folders.copies and not self.host.job.get("UV_LINK_MODE"):
            self.variables["UV_LINK_MODE"] = "copy"
        if self.host.home and self.host.home_is_new:
            self.variables["HOME"] = str(self.host.home)

    def silence(self) -> None:
        """Take out what the machine, not the workflow, has set and what would mislead uv."""
        for name in MISLEADING:
            told = self.host.job.get(name, "")
            if told and told != self.host.own.get(name):
                self.variables[name] = ""
                self.silenced.append(f"{name}={told}")

    def activate(self, folder: Path) -> None:
        """Make later steps use a virtual environment."""
        self.variables["VIRTUAL_ENV"] = str(folder)
        self.path.append(str(folder / "bin"))

    def environment(self) -> dict[str, str]:
        """Return what a later step's environment will be, to run uv in it."""
        path = [*reversed(self.path), self.host.job.get("PATH", "")]
        merged = {**self.host.job, **self.variables, "PATH": ":".join(filter(None, path))}
        return {name: value for name, value in merged.items() if value or name not in MISLEADING}

    def write(self) -> None:
        """Tell the runner, for all later steps of the job."""
        for name, value in self.variables.items():
            workflow_commands.export(name, value)
        for folder in self.path:
            workflow_commands.add_path(folder)
