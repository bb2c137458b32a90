"""Configures the runner's folder, opens its session, and hands each job to a worker process."""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

VERSION = "2.336.0"
ROOT = Path(__file__).resolve().parent.parent
CONFIG = (".runner", ".credentials", ".credentials_rsaparams")
INPUT = "ACTIONS_RUNNER_INPUT_"

TERMINATED, SESSION_CONFLICT, DEPRECATED = 1, 5, 7
GONE, CONFLICT = 404, 409
POLL_SECONDS = 2.0
SESSION_TRIES = 8
# The real runner tries for ever; a stand-in must not outlive the server that it was made for.
UNREACHABLE_SECONDS = 20.0


class Stopped(Exception):
    """SIGINT or SIGTERM came while the runner had nothing to do."""


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Service:
    """The server's side, as far as a runner sees it."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        # No proxy stands between this machine and a server on its own loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, method: str, path: str, sent: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 -- the address is the sandbox's own
            f"{self._url}/_runner/{path}",
            data=None if sent is None else json.dumps(sent).encode(),
            headers={"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"},
            method=method,
        )
        try:
            with self._opener.open(request, timeout=30) as response:
                answer: dict[str, Any] = json.loads(response.read() or b"{}")
        except urllib.error.HTTPError as error:
            raise Refused(error.code, _message(error)) from error
        return answer


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["message"])
    except (ValueError, KeyError, OSError):
        return str(error)


class Listener:
    """From the session's opening to its end."""

    def __init__(self, settings: dict[str, Any], service: Service) -> None:
        self._settings = settings
        self._service = service
        self._worker: subprocess.Popen[str] | None = None
        self._idle = False
        self._stopping = False

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        try:
            return self._connect() or self._listen()
        except Stopped:
            say("Exiting...")
            self._disconnect()
            return 0
        except Refused as refusal:
            return self._gone(refusal)

    def _stop(self, *_: object) -> None:
        self._stopping = True
        if self._worker:
            self._worker.send_signal(signal.SIGINT)
        if self._idle:
            self._idle = False
            raise Stopped

    def _connect(self) -> int:
        if switch("DEPRECATED"):
            say(
                f"An error occurred: Runner version v{VERSION} is deprecated "
                "and cannot receive messages."
            )
            return DEPRECATED
        self._idle = True
        for _ in range(SESSION_TRIES):
            try:
                self._service.ask("POST", "connect", {"version": VERSION})
            except Refused as refusal:
                if refusal.status != CONFLICT:
                    say(f"Failed to create a session. {refusal}")
                    return TERMINATED
                say("A session for this runner already exists.")
                time.sleep(float(switch("RETRY") or 30))
            else:
                return self._connected()
        return SESSION_CONFLICT

    def _connected(self) -> int:
        say("\n√ Connected to GitHub\n")
        say(f"Current runner version: '{VERSION}'")
        say(f"{now()}: Listening for Jobs")
        return TERMINATED if switch("EXIT") == "online" else 0

    def _listen(self) -> int:
        while not self._stopping:
            self._idle = True
            news = self._patiently(f"message/{POLL_SECONDS}")
            self._idle = False
            if "job" in news:
                self._do(news["job"])
                if self._settings["ephemeral"]:
                    forget_config()
                    break
        self._disconnect()
        return 0

    def _patiently(self, path: str) -> dict[str, Any]:
        end = time.monotonic() + UNREACHABLE_SECONDS
        while True:
            try:
                return self._service.ask("GET", path)
            except (OSError, ValueError) as error:
                if time.monotonic() >= end:
                    raise Refused(0, "The server cannot be reached.") from error
                log(f"Runner connect error: {error}. Retrying until reconnected.")
                time.sleep(0.5)

    def _gone(self, refusal: Refused) -> int:
        if switch("HANG") == "gone":
            hang()
        if refusal.status != GONE:
            say(str(refusal))
            return TERMINATED
        say("The runner no longer exists on the server. Cleaning up local configuration.")
        forget_config()
        return 0

    def _do(self, job: dict[str, Any]) -> None:
        if switch("HANG") == "job":
            hang()
        say(f"{now()}: Running job: {job['name']}")
        try:
            self._service.ask("POST", f"jobs/{job['id']}/begin", {})
            result = self._work(job)
            self._service.ask("POST", f"jobs/{job['id']}/finish", {"conclusion": result})
        except Refused as refusal:
            say(f"{now()}: Job {job['name']} was taken away: {refusal}")
        else:
            say(f"{now()}: Job {job['name']} completed with result: {RESULTS[result]}")

    def _work(self, job: dict[str, Any]) -> str:
        given = job | {
            "runner_name": self._settings["agentName"],
            "work_folder": self._settings["workFolder"],
        }
        self._worker = subprocess.Popen(
            [str(ROOT / "bin/Runner.Worker"), "spawnclient", "1", "2"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            return self._follow(self._worker, given)
        finally:
            self._worker.wait()
            self._worker = None

    def _follow(self, worker: subprocess.Popen[str], job: dict[str, Any]) -> str:
        if worker.stdin is None or worker.stdout is None:
            raise RuntimeError("the worker's input and output are pipes")
        worker.stdin.write(json.dumps(job) + "\n")
        worker.stdin.flush()
        threading.Thread(target=self._watch, args=(worker,), daemon=True).start()
        if self._stopping:
            worker.send_signal(signal.SIGINT)
        result = "failure"  # what becomes of a job whose worker dies
        for line in worker.stdout:
            event = json.loads(line)
            result = event.get("result", result)
            self._report(job["id"], event)
        return result

    def _report(self, job_id: int, event: dict[str, Any]) -> None:
        if "log" in event:
            self._quietly(f"jobs/{job_id}/log", {"lines": event["log"]})
        elif "step" in event:
            sent = {"name": event["step"], "ended": event["ended"]}
            self._quietly(f"jobs/{job_id}/step", sent)

    def _quietly(self, path: str, sent: dict[str, Any]) -> None:
        try:
            self._service.ask("POST", path, sent)
        except (Refused, OSError) as error:
            log(f"{path}: {error}")

    def _watch(self, worker: subprocess.Popen[str]) -> None:
        """Stay in touch while the job runs, and pass a cancellation on, once."""
        while worker.poll() is None:
            try:
                news = self._service.ask("GET", f"message/{POLL_SECONDS}")
            except Refused:
                news = {"cancel": True}  # the registration is gone, and the job with it
            except OSError as error:
                log(f"Runner connect error: {error}. Retrying until reconnected.")
                time.sleep(0.5)
                continue
            if "cancel" in news:
                worker.send_signal(signal.SIGINT)
                return

    def _disconnect(self) -> None:
        try:
            self._service.ask("POST", "disconnect", {})
        except (Refused, OSError) as error:
            log(f"disconnect: {error}")


RESULTS = {"success": "Succeeded", "failure": "Failed", "cancelled": "Canceled"}


def switch(name: str) -> str | None:
    return os.environ.get(f"STANDIN_RUNNER_{name}")


def hang() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    while True:
        signal.pause()


def now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())


def log(line: str) -> None:
    with DIAGNOSTICS.open("a", encoding="utf-8") as diagnostics:
        diagnostics.write(f"[{now()} INFO Listener] {line}\n")


def say(line: str) -> None:
    print(line, flush=True)
    log(line)


def write_config(files: dict[str, str]) -> None:
    for name in CONFIG:
        path = ROOT / name
        path.touch(mode=0o600)
        path.write_text(files[name], encoding="utf-8")


def forget_config() -> None:
    for name in CONFIG:
        (ROOT / name).unlink(missing_ok=True)


def unpack(jitconfig: str) -> dict[str, str]:
    files: dict[str, str] = json.loads(base64.b64decode(jitconfig))
    return {name: base64.b64decode(content).decode() for name, content in files.items()}


def load_environment() -> None:
    """`.env` holds KEY=VALUE lines and `.path` the PATH, as the service's setup leaves them."""
    settings = ROOT / ".env"
    if settings.exists():
        lines = settings.read_text(encoding="utf-8").splitlines()
        os.environ.update(line.partition("=")[::2] for line in lines if "=" in line)
    path = ROOT / ".path"
    if path.exists():
        os.environ["PATH"] = path.read_text(encoding="utf-8").strip()


def run(arguments: argparse.Namespace) -> int:
    load_environment()
    if switch("EXIT") == "start":
        print("Cannot get required symbol ENGINE_init from libssl", file=sys.stderr)
        return TERMINATED
    if arguments.jitconfig:
        write_config(unpack(arguments.jitconfig))
    if not (ROOT / ".runner").exists():
        say("Not configured. Run config.(sh/cmd) to configure the runner.")
        return TERMINATED
    settings, _, key = (json.loads((ROOT / name).read_text(encoding="utf-8")) for name in CONFIG)
    return Listener(settings, Service(settings["serverUrl"], key["d"])).run()


def configure(arguments: argparse.Namespace) -> int:
    if (ROOT / ".runner").exists():
        say("Cannot configure the runner because it is already configured.")
        return TERMINATED
    address = urlsplit(arguments.url)
    service = Service(f"{address.scheme}://{address.netloc}", arguments.token)
    try:
        files = service.ask("POST", "register", registration(arguments, address.path.strip("/")))
    except Refused as refusal:
        say(str(refusal))
        return TERMINATED
    write_config({name: json.dumps(files[name]) for name in CONFIG})
    say("√ Runner successfully added\n√ Runner connection is good\n√ Settings Saved.")
    return 0


def registration(arguments: argparse.Namespace, scope: str) -> dict[str, Any]:
    return {
        "scope": scope,
        "token": arguments.token,
        "name": arguments.name or os.uname().nodename,
        "runnergroup": arguments.runnergroup,
        "labels": [label.strip() for label in arguments.labels.split(",") if label.strip()],
        "no_default_labels": bool(arguments.no_default_labels),
        "work": arguments.work,
        "replace": bool(arguments.replace),
        "ephemeral": bool(arguments.ephemeral),
    }


def remove(arguments: argparse.Namespace) -> int:
    settings = json.loads((ROOT / ".runner").read_text(encoding="utf-8"))
    service = Service(settings["serverUrl"], "")
    sent = {
        "scope": urlsplit(settings["gitHubUrl"]).path.strip("/"),
        "name": settings["agentName"],
        "token": arguments.token,
    }
    try:
        if not arguments.local:
            service.ask("POST", "unregister", sent)
    except Refused as refusal:
        say(str(refusal))
        return TERMINATED
    forget_config()
    say("√ Runner removed successfully")
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    _options(commands.add_parser("run"), values={"jitconfig": ""}, flags=())
    _options(commands.add_parser("remove"), values={"token": ""}, flags=("local",))
    _options(
        commands.add_parser("configure"),
        values={
            **dict.fromkeys(("url", "token", "name", "runnergroup", "labels", "pat"), ""),
            "work": "_work",
        },
        flags=("unattended", "no-default-labels", "replace", "disableupdate", "ephemeral"),
    )
    return parser.parse_args(arguments)


def _options(
    parser: argparse.ArgumentParser, *, values: dict[str, str], flags: tuple[str, ...]
) -> None:
    """Each option may come from the environment, which then forgets it."""
    for name, default in values.items():
        parser.add_argument(f"--{name}", default=_input(name) or default)
    for name in flags:
        given = _input(name).lower() in {"1", "true"}
        parser.add_argument(f"--{name}", action="store_true", default=given)


def _input(name: str) -> str:
    return INPUTS.get(INPUT + name.replace("-", "").upper(), "")


def take_inputs() -> dict[str, str]:
    """Secrets come in by the environment, and must not be left in it for the job."""
    names = [name for name in os.environ if name.startswith(INPUT)]
    return {name: os.environ.pop(name) for name in names}


COMMANDS = {"run": run, "configure": configure, "remove": remove}
INPUTS = take_inputs()
DIAGNOSTICS = ROOT / "_diag" / time.strftime("Runner_%Y%m%d-%H%M%S-utc.log", time.gmtime())


def main() -> int:
    DIAGNOSTICS.parent.mkdir(exist_ok=True)
    arguments = parse(sys.argv[1:])
    return COMMANDS[arguments.command](arguments)


if __name__ == "__main__":
    sys.exit(main())
