"""What the user wrote for action-setup-uv; every problem is reported at once."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from gpu_ci.inputs.reader import Reader
from gpu_ci.runtime.home import find_home

if TYPE_CHECKING:
    from collections.abc import Mapping

CHOICES = ("auto", "true", "false")
ACTIVATIONS = ("false", "true", "clear")


@dataclass(frozen=True, kw_only=True)
class SetupUvInputs:
    """The inputs of action-setup-uv. `working_directory` is absolute, and so is a path that began
    with ~; other paths are as written."""

    version: str
    version_file: str
    python_version: str
    activate_environment: Literal["false", "true", "clear"]
    venv_path: str
    working_directory: Path
    checksum: str
    mirror: str
    enable_cache: Literal["auto", "true", "false"]
    cache_local_path: str
    cache_max_gb: float
    tool_dir: str
    tool_bin_dir: str
    sync: str

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Self:
        """Read all inputs. Raises BadInputs with every problem in them."""
        reader = UvReader(env)
        inputs = cls(
            version=reader.text("version"),
            version_file=reader.path("version-file"),
            python_version=reader.text("python-version"),
            activate_environment=reader.choice("activate-environment", ACTIVATIONS),
            venv_path=reader.path("venv-path"),
            working_directory=reader.directory("working-directory"),
            checksum=reader.sha256("checksum"),
            mirror=reader.mirror("mirror"),
            enable_cache=reader.choice("enable-cache", CHOICES),
            cache_local_path=reader.path("cache-local-path"),
            cache_max_gb=reader.gigabytes("cache-max-gb"),
            tool_dir=reader.path("tool-dir"),
            tool_bin_dir=reader.path("tool-bin-dir"),
            sync=reader.text("sync"),
        )
        inputs._look_across(reader)
        reader.finish()
        return inputs

    def _look_across(self, reader: UvReader) -> None:
        if self.venv_path and self.activate_environment == "false" and not self.sync:
            reader.problem("venv-path is for activate-environment or sync: give one of them too.")

    @property
    def keeps_cache(self) -> bool:
        return self.enable_cache != "false"

    def folder(self, name: str) -> Path | None:
        """Return the folder that an input names, relative to the working directory, None if none."""
        text = getattr(self, name.replace("-", "_"))
        # As uv itself prints it, which follows no link for `..` either.
        return Path(os.path.normpath(self.working_directory / text)) if text else None


class UvReader(Reader):
    """Reads what only this action has."""

    def directory(self, name: str) -> Path:
        """Read a folder that must exist, by default the workspace."""
        workspace = self.env.get("GITHUB_WORKSPACE", "") or Path.cwd()
        folder = Path(workspace, self.path(name))
        # Both return False, not an error, where we may not look.
        if not (os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK)):  # noqa: PTH112 -- Path.is_dir raises there
            self.problem(
                f"{name} is {str(folder)!r}, which is not a readable folder. Does the "
                "checkout come before this step?"
            )
            return folder
        return folder.resolve()

    def path(self, name: str) -> str:
        """Read a path; ~ is the home that uv is set up for, whatever HOME says."""
        text = self.text(name)
        if text.partition("/")[0] != "~":
            return text
        if home := find_home(self.env.get("HOME", ""), os.getuid()):
            return str(home / text[1:].lstrip("/"))
        self.problem(f"{name} is {text!r}, and this user has no home: write an absolute path.")
        return ""

    def mirror(self, name: str) -> str:
        """Read an address that has VERSION/uv-TARGET.tar.gz below it."""
        text = self.text(name).rstrip("/")
        if text and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", text):
            self.problem(
                f"{name} is no address of a folder of releases, such as https://mirror.example/uv."
            )
        return text

    def sha256(self, name: str) -> str:
        text = self.text(name).lower().removeprefix("sha256:")
        if text and not re.fullmatch(r"[0-9a-f]{64}", text):
            self.problem(f"{name} is {text!r}; it must be the 64 hexadecimal digits of a SHA-256.")
        return text

    def gigabytes(self, name: str) -> float:
        """Read a size in GB, decimals allowed; 0 is no limit."""
        text = self.text(name, "0")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            self.problem(f"{name} is {text!r}; it must be a number of GB, 0 for no limit.")
            return 0.0
        return value
