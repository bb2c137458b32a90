"""Sets uv up, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs
from gpu_ci.runtime import workflow_commands
from gpu_ci.runtime.clock import SYSTEM_CLOCK, Deadline
from gpu_ci.runtime.signals import Cancellation
from gpu_ci.setup_uv.environments import PROJECTS, activate, place, sync, synced
from gpu_ci.setup_uv.exports import Exports
from gpu_ci.setup_uv.folders import Choosing
from gpu_ci.setup_uv.host import Host
from gpu_ci.setup_uv.installed import link
from gpu_ci.setup_uv.obtain import Obtaining
from gpu_ci.setup_uv.prune_cache import GB, prune
from gpu_ci.setup_uv.pythons import chosen, provide
from gpu_ci.setup_uv.run_uv import Commands

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_ci.runtime.clock import Clock
    from gpu_ci.setup_uv.download import Fetcher
    from gpu_ci.setup_uv.existing_uvs import Uv
    from gpu_ci.setup_uv.folders import Folders
    from gpu_ci.setup_uv.pythons import Python
    from gpu_ci.setup_uv.version_wanted import Wanted

DOWNLOAD_SECONDS: Final = 600.0
PRUNE_SECONDS: Final = 30.0


def setup_uv(env: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
    """Choose folders, get the wanted uv, and tell later steps; then Python, environment, sync.

    Raises GpuCiError with the cure when later steps could not work.
    """
    with Cancellation():  # so that what is half done is tidied up, and no child is left
        setup = _setup(env, clock)
        try:
            setup.python()
            setup.environment()
        finally:  # steps that run in spite of a failure have a uv too
            setup.report()
        setup.prune()


def _setup(env: Mapping[str, str], clock: Clock) -> Setup:
    inputs = SetupUvInputs.read(env)
    host = Host.read(env)
    folders = Choosing(inputs=inputs, host=host).folders()
    own = Path(env["GPU_CI_KEPT"]) if env.get("GPU_CI_KEPT") else None
    uv, wanted = _obtaining(inputs, host, folders, own, clock).uv()
    setup = Setup(
        inputs=inputs,
        host=host,
        folders=folders,
        uv=uv,
        wanted=wanted,
        clock=clock,
        exports=Exports(host=host),
        own=own,
    )
    setup.export()
    return setup


def _obtaining(
    inputs: SetupUvInputs, host: Host, folders: Folders, own: Path | None, clock: Clock
) -> Obtaining:
    def fetcher() -> Fetcher:
        from gpu_ci.setup_uv.download import Fetcher  # noqa: PLC0415 -- a second run need not load requests

        deadline = Deadline.after(DOWNLOAD_SECONDS, clock)
        return Fetcher(job=host.job, deadline=deadline, say=workflow_commands.say)

    return Obtaining(
        inputs=inputs,
        host=host,
        folders=folders,
        own=own,
        say=workflow_commands.say,
        fetcher=fetcher,
    )


@dataclass(kw_only=True)
class Setup:
    """What follows once a uv is chosen; `own` is the folder of this program's own environment."""

    inputs: SetupUvInputs
    host: Host
    folders: Folders
    uv: Uv
    wanted: Wanted
    clock: Clock
    exports: Exports
    own: Path | None = None
    found: Python | None = None
    venv: Path | None = None
    about_venv: str = ""

    def export(self) -> None:
        """Say where everything is, before uv is used for the first time."""
        self.exports.add_folders(self.folders)
        self.exports.silence()
        self.exports.path.append(str(self._bin()))

    def _bin(self) -> Path:
        """Return the folder with this uv for PATH: never one where a foreign uv lies next to a Python."""
        if self.uv.path.is_relative_to(self.folders.uvs):
            return self.uv.path.parent
        return link(self.uv, self.folders.bin)

    def _commands(self) -> Commands:
        return Commands(
            path=self.uv.path,
            env=self.exports.environment(),
            folder=self.inputs.working_directory,
        )

    def python(self) -> None:
        """Provide the Python that was asked for; without one, leave the choice to uv."""
        if asked := self.inputs.python_version:
            self.found = provide(asked, self._commands(), workflow_commands.say)
            self.exports.variables["UV_PYTHON"] = asked

    def environment(self) -> None:
        """Activate the environment and fill it, as far as the inputs ask for that."""
        inputs, variables = self.inputs, self.exports.variables
        if inputs.venv_path:  # elsewhere than uv would look for the project's environment
            variables[PROJECTS] = str(place(inputs, self._commands()))
        if inputs.activate_environment != "false":
            made = activate(inputs, self._commands())
            self.venv, self.about_venv = made.folder, made.why
            self.exports.activate(made.folder)
        if inputs.sync not in {"", "false"}:
            self._sync()
        self._look_at_python()

    def _sync(self) -> None:
        uv = self._commands()
        into = {PROJECTS: str(self.venv)} if self.venv else {}
        with workflow_commands.group("uv sync"):
            sync(self.inputs, uv.having(into), workflow_commands.say)
        self.venv = self.venv or synced(uv)
        self.about_venv = f"{self.about_venv}, in step with the lock".removeprefix(", ")

    def _look_at_python(self) -> None:
        """Find out which Python later steps get: an environment that was kept may decide that."""
        if self.venv or not self.found:
            got = chosen(self._commands(), self.venv)
            same = self.found and got and self.found.version == got.version
            self.found = self.found if same else got or self.found

    def report(self) -> None:
        """Write what later steps get, the outputs, and which uv and Python won and why."""
        self.exports.write()
        uv, folders = self.uv, self.folders
        uvx = self._bin() / "uvx"
        workflow_commands.output("uv-version", str(uv.version))
        workflow_commands.output("uv-path", str(uv.path))
        workflow_commands.output("uvx-path", str(uvx) if uvx.exists() else "")
        workflow_commands.output("venv", str(self.venv or ""))
        workflow_commands.output("python-version", self.found.version if self.found else "")
        workflow_commands.output("cache-hit", str(folders.cache_was_there).lower())
        workflow_commands.output("cache-dir", str(folders.cache))
        for line in (*self._lines(), *folders.notes):
            workflow_commands.say(line)
        workflow_commands.summary("\n\n".join(["### uv", *self._lines()]))

    def _lines(self) -> list[str]:
        uv, found, folders = self.uv, self.found, self.folders
        python = f"Python {found.version}, {found.why} ({found.path})" if found else "no Python yet"
        kept = "kept for the next job" if folders.cache_is_kept else "for this job only"
        written = [
            folders.cache,
            folders.pythons,
            folders.tools,
            folders.tool_bin,
            folders.uvs.parent,
            *([self.own] if self.own else []),
        ]
        return [
            f"uv {uv.version} {uv.where}, since {self.wanted.source} wants {self.wanted}; {python}.",
            *([f"Environment: {self.venv}, {self.about_venv}."] if self.venv else []),
            f"Cache: {folders.cache}, {kept}.",
            f"Written to: {', '.join(map(str, written))}.",
            *(
                f"Emptied, since the machine has set it and not the workflow: {text}."
                for text in self.exports.silenced
            ),
        ]

    def prune(self) -> None:
        """Keep the cache below its limit; a cache that stays too big is no reason to fail."""
        if not self.inputs.cache_max_gb:
            return
        deadline = Deadline.after(PRUNE_SECONDS, self.clock)
        linked = self.exports.environment().get("UV_LINK_MODE", "")
        done = prune(self.folders.cache, self.inputs.cache_max_gb, deadline, linked)
        workflow_commands.say(
            f"Cache: {done.removed} entries removed, {done.kept / GB:.1f} GB kept"
            f"{f'; {done.why}' if done.why else ''}."
        )
