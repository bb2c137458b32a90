"""Machine profiles of `.github/gpu-ci.yml`: what the inputs of a step leave out.

A profile is read from where only people who may rent machines can change it: see `trusted_file.py`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from gpu_ci.errors import GpuCiError
from gpu_ci.inputs.reader import variable
from gpu_ci.model.machine import from_handle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def applied(
    env: Mapping[str, str], say: Callable[[str], None], *, hurried: bool = False
) -> Mapping[str, str]:
    """Return the environment with the profile's values where an input is empty.

    It is the same one when `profile` is empty. `hurried` is for a caller that can do without the
    profile: it waits seconds for GitHub, not a minute. Raises BadInputs for a fault of the file or
    the profile, GitHubError when the file has to come from GitHub and cannot be had.
    """
    name = env.get(variable("profile"), "").strip()
    if not name:
        return env
    # Most steps name no profile, and a machine that only sets up uv has no yaml.
    from gpu_ci.profiles.read_profile import read  # noqa: PLC0415 -- see above
    from gpu_ci.profiles.trusted_file import find  # noqa: PLC0415 -- see above

    source = find(env, say, hurried=hurried)
    given = read(source.data, name, source.told)
    blank = {key for key in given if not env.get(variable(key), "").strip()}
    say(_describe(name, source.told, given, blank))
    return {**env, **{variable(key): given[key] for key in blank}}


def applied_to_stop(
    env: Mapping[str, str], say: Callable[[str], None], warn: Callable[[str], None]
) -> Mapping[str, str]:
    """Return the same for a stop, which ignores the profile's `region`.

    A region would narrow the search for machines, and start may have used another one. With a handle
    no profile is needed: if it cannot be read, the stop warns and gives the machine back without
    much waiting.
    """
    from gpu_ci.profiles.keys import OF_A_STOP  # noqa: PLC0415 -- most steps name no profile

    provider = _provider_of_the_handle(env)
    try:
        filled = applied(env, say, hurried=bool(provider))
    except GpuCiError as error:
        if not provider:
            raise
        warn(f"The profile is not used, and the machine is given back by its handle. {error}")
        return {variable("provider"): provider, **_given(env)}
    taken = {variable(key) for key in OF_A_STOP}
    return {**env, **{name: filled[name] for name in taken if name in filled}}


def _given(env: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment without a blank provider, which would outrank the handle's."""
    name = variable("provider")
    return {key: value for key, value in env.items() if key != name or value.strip()}


def _provider_of_the_handle(env: Mapping[str, str]) -> str:
    with suppress(ValueError, IndexError):  # what is wrong with a handle is said where it is read
        return from_handle(env.get(variable("handle"), ""))[0].provider
    return ""


def _describe(name: str, where: str, given: Mapping[str, str], blank: set[str]) -> str:
    used = ", ".join(key for key in given if key in blank) or "nothing"
    outranked = [key for key in given if key not in blank]
    more = f"; the inputs outrank its {', '.join(outranked)}" if outranked else ""
    return f"Profile {name} of {where} gives {used}{more}."
