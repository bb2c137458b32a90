"""The startup scripts of the account: one for each machine and place whose runners it serves."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import CloudError, CloudUnreachable, NotPermitted, QuotaExceeded, WrongRequest
from gpu_ci.providers.http import Call
from gpu_ci.providers.jarvislabs.api import upload
from gpu_ci.providers.jarvislabs.api_errors import NETWORK_CURE, rows

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gpu_ci.providers.jarvislabs.api import Api

# By one operator's notes, an account may have this many. Only the service's own refusal counts.
USUAL_SLOTS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Script:
    """A startup script as the account lists it."""

    id: int
    name: str


class Scripts:
    """Startup scripts, found by their exact names and updated in place."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._sent: dict[str, str] = {}

    def all(self) -> list[Script]:
        """List them. Raises CloudError."""
        doing = "list the startup scripts"
        data = self._api.get("scripts/", doing)
        with suppress(KeyError, TypeError, ValueError):
            return [
                Script(id=int(row["script_id"]), name=str(row["script_name"]))
                for row in rows(data, "script_meta")
            ]
        raise CloudUnreachable(
            f"JarvisLabs did not {doing}: the list has another shape.", NETWORK_CURE
        )

    def put(self, machine: str, scope: str, text: str) -> int:
        """Make this the machine's script, and return its id. There is never a second one.

        Raises NotPermitted if another repository or organisation has one for the machine.
        """
        scripts = self.all()
        refuse_foreign(machine, places(scripts, machine) - {place_of(scope)})
        name = script_name(machine, scope)
        digest = hashlib.sha256(text.encode()).hexdigest()
        script = _named(scripts, name)
        if script is None:
            script = self._added(name, text, scripts)
        elif self._sent.get(name) != digest:
            self._update(script, text)
        self._sent[name] = digest
        return script.id

    def remove(self, machine: str) -> None:
        """Remove what the machine had. Raises CloudError."""
        for script in self.all():
            if script.name.startswith(_stem(machine)):
                query = {"script_id": script.id}
                doing = f"remove the startup script {script.name}"
                self._api.send(Call(verb="DELETE", path="scripts/", doing=doing, query=query))

    def _added(self, name: str, text: str, before: Sequence[Script]) -> Script:
        """Add it and see that it is there: the answer names no id."""
        doing = f"add the startup script {name}"
        trouble: CloudError | None = None
        try:
            self._api.send(
                Call(
                    verb="POST",
                    path="scripts/add",
                    doing=doing,
                    query={"name": name},
                    files=upload(text),
                )
            )
        except CloudUnreachable as error:
            trouble = error
        except CloudError as error:
            if isinstance(error, WrongRequest) or len(before) >= USUAL_SLOTS:
                raise _no_slot(error, before) from None
            raise
        if added := _named(self.all(), name):
            return added
        raise trouble or CloudUnreachable(f"JarvisLabs did not {doing}.", NETWORK_CURE)

    def _update(self, script: Script, text: str) -> None:
        """Replace its text; once more after a lost answer, since sending it twice does no harm."""
        doing, query = f"update the startup script {script.name}", {"script_id": script.id}
        call = Call(
            verb="POST", path="scripts/update", doing=doing, query=query, files=upload(text)
        )
        try:
            self._api.send(call)
        except CloudUnreachable:
            self._api.send(call)


def script_name(machine: str, scope: str) -> str:
    """Return the script's name; a machine's name has no full stop in it."""
    return f"{_stem(machine)}{place_of(scope)}"


def place_of(scope: str) -> str:
    """Return where runners are registered (`repos/octo/science`, `orgs/octo`) as names spell it.

    GitHub takes these names in any case.
    """
    return scope.partition("/")[2].replace("/", ".").lower()


def places(scripts: Sequence[Script], machine: str) -> set[str]:
    """Return where the machine is used from, as far as scripts tell, in the form of `place_of`."""
    stem = _stem(machine)
    return {each.name.removeprefix(stem) for each in scripts if each.name.startswith(stem)}


def refuse_foreign(machine: str, foreign: Collection[str]) -> None:
    """Raise NotPermitted if the machine is used from these places."""
    if foreign:
        raise NotPermitted(
            f"{machine} is used by {', '.join(sorted(foreign))} too, whose runs this repository's "
            "lock cannot see: one could pause the machine under the other's job.",
            "Use one machine for each repository, or set `organization` in both; if that use is "
            f"over, remove the startup script {_stem(machine)}{min(foreign)} at "
            "https://jarvislabs.ai.",
        )


def slots(scripts: Sequence[Script]) -> str:
    """Say how many scripts there are."""
    return f"{len(scripts)} startup scripts; an account is said to have room for {USUAL_SLOTS}"


def _stem(machine: str) -> str:
    return f"gpu-ci.{machine}."


def _named(scripts: Sequence[Script], name: str) -> Script | None:
    return min((each for each in scripts if each.name == name), key=lambda s: s.id, default=None)


def _no_slot(error: CloudError, scripts: Sequence[Script]) -> QuotaExceeded:
    named = ", ".join(f"{each.name} ({each.id})" for each in scripts) or "none"
    return QuotaExceeded(
        f"{error.what} The account has these startup scripts: {named}.",
        "Remove one that nobody uses at https://jarvislabs.ai, such as one named gpu-ci.<machine>.* "
        "whose machine is gone; an account is said to have room for three.",
    )
