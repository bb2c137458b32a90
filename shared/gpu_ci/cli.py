"""`gpu-ci start|stop|watchdog|setup-uv|doctor|demo|sandbox`: the stories of the actions, from a terminal."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

from gpu_ci import actions
from gpu_ci.cancellation import Cancelled
from gpu_ci.errors import GpuCiError, StartFailed
from gpu_ci.inputs import StartInputs, StopInputs, WatchdogInputs, input_names, variable
from gpu_ci.uv.inputs import SetupUvInputs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Secrets come from the environment: a command line is readable by every user of the machine.
FROM_ENVIRONMENT: Final = {
    "github-token": ("GITHUB_TOKEN", "GH_TOKEN"),
    "app-private-key": ("GPU_CI_APP_PRIVATE_KEY",),
}

INPUTS: Final[Mapping[str, type[Any]]] = {
    "stop": StopInputs,
    "watchdog": WatchdogInputs,
    "setup-uv": SetupUvInputs,
}
SECRETS: Final = "Secrets come from the environment: GITHUB_TOKEN, or GPU_CI_APP_PRIVATE_KEY."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = vars(_parser().parse_args(argv))
    command = arguments.pop("command")
    if command == "demo":
        from gpu_ci.sandbox.demo import demo  # noqa: PLC0415 -- needs the extra `sandbox`

        return run(lambda _env: demo(**arguments), os.environ)
    if command == "sandbox":
        from gpu_ci.sandbox.serve import serve  # noqa: PLC0415 -- needs the extra `sandbox`

        return run(serve, os.environ)
    return run(STORIES[command], _environment(arguments, os.environ))


def run(story: Callable[[Mapping[str, str]], None], env: Mapping[str, str]) -> int:
    """Tell a story; show a failure as a paragraph and return the exit code of its class.

    Only expected failures are caught: anything else is a bug, and shows its traceback.
    """
    try:
        story(env)
    except (GpuCiError, Cancelled) as failure:
        actions.error("\n\n".join([str(failure), *getattr(failure, "__notes__", [])]))
        if isinstance(failure, StartFailed) and failure.tail:
            with actions.group("The end of the machine's boot log"):
                actions.quote(failure.tail)
        return failure.exit_code
    except KeyboardInterrupt:  # before anything was rented, or after
        return 128 + signal.SIGINT
    return 0


def _start(env: Mapping[str, str]) -> None:
    from gpu_ci.start import start  # noqa: PLC0415 -- a stop need not load a start

    start(env)


def _stop(env: Mapping[str, str]) -> None:
    from gpu_ci.stop import stop  # noqa: PLC0415 -- a start need not load a stop

    stop(env)


def _watchdog(env: Mapping[str, str]) -> None:
    from gpu_ci.watchdog import watchdog  # noqa: PLC0415 -- neither need a start or a stop

    watchdog(env)


def _setup_uv(env: Mapping[str, str]) -> None:
    from gpu_ci.setup_uv import setup_uv  # noqa: PLC0415 -- needs the group `setup-uv`

    setup_uv(env)


def _doctor(env: Mapping[str, str]) -> None:
    _start({**env, variable("dry-run"): "true"})


STORIES: Final = {
    "start": _start,
    "stop": _stop,
    "watchdog": _watchdog,
    "setup-uv": _setup_uv,
    "doctor": _doctor,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpu-ci",
        description="Rent a GPU machine as a single-use GitHub runner, and give it back.",
        epilog=SECRETS,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    texts = {
        "start": "rent machines and wait until their runners are online",
        "stop": "give machines and their registrations back",
        "watchdog": "end waits for runners that do not come, and what is left over",
        "setup-uv": "get a uv that works here, and print what to export for it",
        "doctor": "look at everything that a start needs, spend nothing",
    }
    for command, text in texts.items():
        names = input_names(INPUTS.get(command, StartInputs))
        action = f"action-{command if command in INPUTS else 'start'}"
        more = f"The flags are the inputs of {action}; its README says what each means."
        ending = f"{more} {SECRETS}" if _asks_github(names) else more
        _add_flags(commands.add_parser(command, help=text, description=text, epilog=ending), names)
    demo = commands.add_parser("demo", help="run the whole loop on this machine, offline")
    demo.add_argument("--workflow", metavar="FILE", help="run this workflow file under act")
    demo.add_argument(
        "--provider",
        choices=("local", "jarvislabs"),
        default="local",
        help="jarvislabs: twice on one machine, paused in between (default: local)",
    )
    commands.add_parser("sandbox", help="serve the stand-in for GitHub until it is interrupted")
    return parser


def _asks_github(names: Sequence[str]) -> bool:
    return "github-token" in names


def _add_flags(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    if _asks_github(names):
        told = "default: $GITHUB_REPOSITORY"
        parser.add_argument("--repository", metavar="OWNER/NAME", help=told)
    for name in names:
        if name not in FROM_ENVIRONMENT:
            parser.add_argument(f"--{name}", metavar="VALUE", dest=variable(name))


def _environment(arguments: Mapping[str, str | None], env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that an action's step would have for these flags."""
    merged = dict(env)
    for name, sources in FROM_ENVIRONMENT.items():
        given = next((env[source] for source in sources if env.get(source)), "")
        merged.setdefault(variable(name), given)
    flags = {name: value for name, value in arguments.items() if value is not None}
    repository = flags.pop("repository", None)
    if repository:
        merged["GITHUB_REPOSITORY"] = repository
    return merged | flags


if __name__ == "__main__":
    sys.exit(main())
