"""`gpu-ci start|stop|watchdog|setup-uv|doctor|init|cost|demo|sandbox`: the stories of the actions, from a terminal."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpu_ci.errors import GpuCiError
from gpu_ci.inputs.reader import CARRY_SECRETS, input_names, variable
from gpu_ci.runtime import failure, workflow_commands
from gpu_ci.runtime.redaction import remember
from gpu_ci.runtime.signals import Cancelled

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

# Secrets come from the environment: a command line is readable by every user of the machine.
FROM_ENVIRONMENT: Final = {
    "github-token": ("GITHUB_TOKEN", "GH_TOKEN"),
    "app-private-key": ("GPU_CI_APP_PRIVATE_KEY",),
}

COST_FLAGS: Final = ("since", "workflow", "plot", "mermaid", "as_json")
SECRETS: Final = "Secrets come from the environment: GITHUB_TOKEN, or GPU_CI_APP_PRIVATE_KEY."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = vars(_parser().parse_args(argv))
    command = arguments.pop("command")
    if command == "demo":
        from gpu_ci_sandbox.demo import demo  # noqa: PLC0415 -- needs the extra `sandbox`

        return run(lambda _env: demo(**arguments), os.environ)
    if command == "sandbox":
        from gpu_ci_sandbox.serve import serve  # noqa: PLC0415 -- needs the extra `sandbox`

        return run(serve, os.environ)
    if command == "init":
        return run(_init(arguments), os.environ)
    if command == "cost":
        return run(_cost(arguments), _environment(arguments, os.environ))
    return run(STORIES[command], _environment(arguments, os.environ))


def run(story: Callable[[Mapping[str, str]], None], env: Mapping[str, str]) -> int:
    """Run a story; return its exit code. A failure is in the log and in the job's summary."""
    for name in CARRY_SECRETS:
        remember(env.get(name, ""))
    try:
        story(env)
    except (GpuCiError, Cancelled) as expected:
        return failure.show(expected)
    except KeyboardInterrupt:  # before anything was rented, or after
        return 128 + signal.SIGINT
    except Exception as bug:  # noqa: BLE001 -- it is shown with its traceback and where to report it
        return failure.show_bug(bug)
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


def _cost(arguments: dict[str, Any]) -> Callable[[Mapping[str, str]], None]:
    """Take this command's own flags, and return its story."""
    from gpu_ci.cost import cost  # noqa: PLC0415 -- no action needs it

    own = {name: arguments.pop(name) for name in COST_FLAGS}
    return lambda env: cost(env, **own)


def _init(arguments: Mapping[str, Any]) -> Callable[[Mapping[str, str]], None]:
    """Take this command's own flags, and return its story."""
    from gpu_ci.init import init  # noqa: PLC0415 -- no action needs it
    from gpu_ci.init.choices import Flags  # noqa: PLC0415 -- the same

    flags, ask = Flags(**arguments), _ask if sys.stdin.isatty() else None
    return lambda env: init(flags, Path.cwd(), env, ask, workflow_commands.say)


def _ask(question: str) -> str:
    """Ask in the terminal; the end of the input counts as an interrupt."""
    try:
        return input(question)
    except EOFError:
        raise KeyboardInterrupt from None


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
    # A step of an action has no command line, and nothing of this to load.
    import argparse  # noqa: PLC0415

    from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs  # noqa: PLC0415
    from gpu_ci.inputs.start_inputs import StartInputs  # noqa: PLC0415
    from gpu_ci.inputs.stop_inputs import StopInputs  # noqa: PLC0415
    from gpu_ci.inputs.watchdog_inputs import WatchdogInputs  # noqa: PLC0415

    inputs = {"stop": StopInputs, "watchdog": WatchdogInputs, "setup-uv": SetupUvInputs}
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
        "doctor": "check everything a start needs, spend nothing",
    }
    for command, text in texts.items():
        names = input_names(inputs.get(command, StartInputs))
        action = f"action-{command if command in inputs else 'start'}"
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
    text = "write the profiles and the workflow of a repository"
    _add_init(commands.add_parser("init", help=text, description=text))
    text = "show what machines have cost, by run and by type"
    _add_cost(commands.add_parser("cost", help=text, description=text, epilog=SECRETS))
    commands.add_parser("sandbox", help="serve the stand-in for GitHub until it is interrupted")
    return parser


def _add_init(parser: argparse.ArgumentParser) -> None:
    helps = {
        "provider": "where the machines come from",
        "machine": "their types, best first, separated by commas",
        "profile": "name of the profile; with --from the one that the workflow uses",
        "python": "version of Python for uv to use",
        "run": "command that runs the tests, on the machine",
        "from": "read the machines of a .cirun.yml (default: that of the repository)",
    }
    for name, text in helps.items():
        dest = {"from": "source"}.get(name, name)
        parser.add_argument(f"--{name}", metavar="VALUE", default="", dest=dest, help=text)
    parser.add_argument("--dry-run", action="store_true", help="show the files, write none")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")
    parser.add_argument("--yes", action="store_true", help="ask nothing, take what is proposed")


def _add_cost(parser: argparse.ArgumentParser) -> None:
    _add_flags(parser, ["github-token", "github-api-url"])
    parser.add_argument("--since", metavar="DAY", default="", help="default: this month's first")
    parser.add_argument("--workflow", metavar="NAME", default="", help="only runs of this workflow")
    parser.add_argument(
        "--plot", metavar="FILE.png", default="", help="draw it; needs gpu-ci[plot]"
    )
    parser.add_argument(
        "--mermaid", action="store_true", help="print a chart, and add it to the job's summary"
    )
    parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")


def _asks_github(names: Sequence[str]) -> bool:
    return "github-token" in names


def _add_flags(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    if _asks_github(names):
        text = "default: $GITHUB_REPOSITORY"
        parser.add_argument("--repository", metavar="OWNER/NAME", help=text)
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
