"""The API of JarvisLabs as an application: every path, and what every request passes."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Flask, current_app, jsonify, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as Unavailable

from gpu_ci_sandbox.fake_jarvislabs import price_list
from gpu_ci_sandbox.fake_jarvislabs.machine_records import CPU, REGIONS, VM
from gpu_ci_sandbox.fake_jarvislabs.refusal import (
    Field,
    Refusal,
    name,
    not_found,
    number,
    read,
    refuse,
    text,
    truth,
    wanted,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Response
    from flask.typing import ResponseReturnValue

    from gpu_ci_sandbox.fake_jarvislabs.account import Account
    from gpu_ci_sandbox.fake_jarvislabs.machine_records import Kind, Machine

HOST: Final = "gpu_ci.jarvislabs.region"
API_KEY: Final = "jl-sandbox-key"
UNTOUCHED: Final = (Field("duration", text), Field("arguments", text))
STARTED: Final = (
    wanted("hdd", number),
    wanted("name", name),
    Field("http_ports", text, ""),
    Field("script_id", number),
    Field("script_args", text, ""),
    Field("fs_id", number),
    Field("is_spot", truth, False),
)
SIZED: Final = (wanted("gpu_type", text), wanted("num_gpus", number))
CPU_SIZED: Final = (wanted("vcpus", number), wanted("ram_gb", number))
CPU_STARTED: Final = (wanted("hdd", number), wanted("name", name))

api = Blueprint("jarvislabs", __name__)


def create_app(state: Account) -> Flask:
    """The API below `/`, and below `/<region>/` for the region's own host."""
    app = Flask("jarvislabs", static_folder=None)
    app.extensions["account"] = state
    app.register_blueprint(api)
    app.before_request(_authenticate)
    app.register_error_handler(Refusal, _refuse)
    app.register_error_handler(HTTPException, _refuse_route)
    app.wsgi_app = _Turns(app.wsgi_app, state)  # type: ignore[method-assign]  # flask's own way
    return app


class _Turns:
    """Takes the region out of the path, and lets one request at a time act on the account."""

    def __init__(self, app: WSGIApplication, state: Account) -> None:
        self._app = app
        self._state = state

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        region, slash, rest = environ["PATH_INFO"].lstrip("/").partition("/")
        if slash and region in REGIONS:
            environ |= {"PATH_INFO": f"/{rest}", HOST: region}
        if self._state.closed:
            return Unavailable(status=HTTPStatus.SERVICE_UNAVAILABLE)(environ, start_response)
        with self._state.turn():
            return self._app(environ, start_response)


def _authenticate() -> None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise refuse(HTTPStatus.FORBIDDEN, "Not authenticated")
    if not hmac.compare_digest(key.strip().encode(), API_KEY.encode()):
        raise refuse(HTTPStatus.UNAUTHORIZED, "Invalid token")


def _refuse(refusal: Refusal) -> Response:
    response = jsonify(refusal.body)
    response.status_code = refusal.status
    return response


def _refuse_route(error: HTTPException) -> Response:
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    return _refuse(Refusal(status, {"detail": error.name}))


def _account() -> Account:
    state: Account = current_app.extensions["account"]
    return state


def _done(**fields: Any) -> ResponseReturnValue:
    return _account().settings.flagged(True, **fields)


def _here(region: str) -> None:
    """Refuse what another region's host would have to do."""
    if request.environ.get(HOST, region) != region:
        raise not_found()


def _sent() -> dict[str, Any]:
    body = request.get_json(force=True, silent=True) if request.get_data() else {}
    if not isinstance(body, dict):
        wrong = {"type": "model_attributes_type", "loc": ["body"], "msg": "Input should be a dict"}
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, {"detail": [wrong]})
    return body


def _body(*fields: Field) -> dict[str, Any]:
    return read("body", _sent(), fields)


def _query(*fields: Field) -> dict[str, Any]:
    return read("query", request.args, fields)


def _named_machine(kind: Kind | None = None) -> Machine:
    """Return the machine of the query, at its own region's host."""
    machine = _account().machine(_query(wanted("machine_id", number))["machine_id"], kind)
    _here(machine.region)
    return machine


# machines


@api.get("/users/fetch")
def list_machines() -> ResponseReturnValue:
    return _done(instances=[_row(each) for each in _account().machines])


@api.get("/users/fetch/<machine_id>")
def fetch_machine(machine_id: str) -> ResponseReturnValue:
    path = read("path", {"machine_id": machine_id}, [wanted("machine_id", number)])
    return _done(instance=_row(_account().seen(path["machine_id"])))


@api.get("/misc/status")
def status() -> ResponseReturnValue:
    machine = _named_machine()
    if machine.status_row is None:
        raise not_found("Status")
    return machine.status_row


@api.post("/templates/<template>/create")
def create(template: str) -> ResponseReturnValue:
    body = _body(*SIZED, wanted("region", text), *STARTED, *UNTOUCHED, Field("disk_type", text))
    _here(body["region"])
    if template not in price_list.TEMPLATES or body["region"] not in REGIONS:
        raise not_found("Template")
    machine = _account().create(template=template, **_without_untouched(body))
    return _done(machine_id=machine.id)


@api.post("/templates/vm/cpu/create")
def create_cpu_vm() -> ResponseReturnValue:
    body = _body(*CPU_SIZED, wanted("region", text), *CPU_STARTED)
    _here(body["region"])
    _check_plan(body)
    machine = _account().create(template=VM, gpu_type=CPU, num_gpus=1, **body)
    return _done(machine_id=machine.id)


@api.post("/templates/<template>/resume")
def resume(template: str) -> ResponseReturnValue:
    body = _body(wanted("machine_id", number), *SIZED, *STARTED, *UNTOUCHED)
    machine = _account().machine(body.pop("machine_id"))
    if machine.template != template or machine.kind == "cpu-vm":
        raise not_found()
    _here(machine.region)
    return _done(machine_id=_account().resume(machine, **_without_untouched(body)).id)


@api.post("/templates/vm/cpu/resume")
def resume_cpu_vm() -> ResponseReturnValue:
    sizes = (Field(each.name, each.read) for each in CPU_SIZED)
    body = _body(wanted("machine_id", number), *sizes, *CPU_STARTED)
    machine = _account().machine(body.pop("machine_id"), "cpu-vm")
    _here(machine.region)
    changes = {key: value for key, value in body.items() if value is not None}
    _check_plan({"vcpus": machine.vcpus, "ram_gb": machine.ram_gb} | changes)
    return _done(machine_id=_account().resume(machine, **changes).id)


def _without_untouched(body: dict[str, Any]) -> dict[str, Any]:
    dropped = {"disk_type", *(each.name for each in UNTOUCHED)}
    return {key: value for key, value in body.items() if key not in dropped}


def _check_plan(sizes: dict[str, Any]) -> None:
    plans = {(vcpus, ram_gb) for vcpus, ram_gb, _ in price_list.CPU_PLANS}
    if (sizes["vcpus"], sizes["ram_gb"]) not in plans:
        raise refuse(HTTPStatus.BAD_REQUEST, "Invalid CPU VM size")


@api.post("/misc/pause")
def pause() -> ResponseReturnValue:
    return _pause("container")


@api.post("/templates/vm/pause")
def pause_vm() -> ResponseReturnValue:
    return _pause("vm")


@api.post("/templates/vm/cpu/pause")
def pause_cpu_vm() -> ResponseReturnValue:
    return _pause("cpu-vm")


def _pause(kind: Kind) -> ResponseReturnValue:
    _account().pause(_named_machine(kind))
    return _done()


@api.post("/misc/destroy")
def destroy() -> ResponseReturnValue:
    return _destroy("container")


@api.post("/templates/vm/destroy")
def destroy_vm() -> ResponseReturnValue:
    return _destroy("vm")


@api.post("/templates/vm/cpu/destroy")
def destroy_cpu_vm() -> ResponseReturnValue:
    return _destroy("cpu-vm")


def _destroy(kind: Kind) -> ResponseReturnValue:
    _account().destroy(_named_machine(kind))
    return _done()


@api.put("/machines/machine_name")
def rename() -> ResponseReturnValue:
    query = _query(wanted("machine_id", number), wanted("machine_name", name))
    _account().machine(query["machine_id"]).name = query["machine_name"]
    return _done()


def _row(machine: Machine) -> dict[str, Any]:
    """Return a machine as the API shows it; what changes at a start is stale until it is up."""
    settings = _account().settings
    record = machine.record(settings)
    running = machine.state == "Running"
    return {
        "machine_id": record.id,
        "instance_name": record.name,
        "status": record.status,
        "framework": record.template,
        "framework_id": str(price_list.TEMPLATES.index(record.template)),
        "version": "1",
        "gpu_type": record.gpu_type,
        "num_gpus": record.num_gpus,
        "hdd": record.hdd,
        "ram": f"{machine.ram_gb}GB",
        "cores": machine.vcpus,
        "url": machine.url,
        "ssh_str": record.ssh_str,
        "endpoints": [],
        "vs_url": machine.url,
        "frequency": "hour",
        "duration": f"{int(settings.now() - machine.running_since) if running else 0} seconds",
        "cost": price_list.cost(settings, machine),
        "is_spot": record.is_spot,
        "is_reserved": not record.is_spot,
        "v_size": 0.0,
        "disk_type": "ssd",
        "public_ip": "127.0.0.1" if running else None,
        "private_ip": None,
        "vpc_id": None,
        "http_ports": machine.http_ports,
        "fs_id": record.fs_id,
        "region": record.region,
        "deployment_id": None,
        "committed_resource_id": None,
        "reservation_info": None,
        "user_id": "sandbox@example.com",
    }


# scripts, keys, filesystems


@api.get("/scripts/")
def list_scripts() -> ResponseReturnValue:
    scripts = _account().scripts
    return _done(script_meta=[{"script_id": each.id, "script_name": each.name} for each in scripts])


@api.post("/scripts/add")
def add_script() -> ResponseReturnValue:
    """The answer does not hold the id: clients find it in the list."""
    given = _query(Field("name", text, ""))["name"]
    _account().add_script(given, _uploaded())
    return _done()


@api.post("/scripts/update")
def update_script() -> ResponseReturnValue:
    script_id = _query(wanted("script_id", number))["script_id"]
    body = _uploaded()
    _account().script(script_id).body = body
    return _done()


@api.delete("/scripts/")
def remove_script() -> ResponseReturnValue:
    script_id = _query(wanted("script_id", number))["script_id"]
    _account().scripts.remove(_account().script(script_id))
    return _done()


def _uploaded() -> str:
    file = request.files.get("script")
    sent = {"script": file.read().decode() if file else None}
    return str(read("body", sent, [wanted("script", text)])["script"])


@api.get("/ssh/")
def list_ssh_keys() -> ResponseReturnValue:
    return [
        {
            "ssh_key": each.ssh_key,
            "key_name": each.key_name,
            "key_id": each.key_id,
            "user_id": "sandbox@example.com",
        }
        for each in _account().ssh_keys
    ]


@api.post("/ssh/")
def add_ssh_key() -> ResponseReturnValue:
    _account().add_ssh_key(**_body(wanted("ssh_key", text), wanted("key_name", text)))
    return _done()


@api.delete("/ssh/<key_id>")
def remove_ssh_key(key_id: str) -> ResponseReturnValue:
    _account().remove_ssh_key(key_id)
    return _done()


@api.get("/filesystem/list")
def list_filesystems() -> ResponseReturnValue:
    return [
        {
            "fs_id": each.fs_id,
            "fs_name": each.fs_name,
            "storage": each.storage,
            "region": each.region,
        }
        for each in _account().filesystems
    ]


@api.post("/filesystem/create")
def create_filesystem() -> ResponseReturnValue:
    body = _body(wanted("fs_name", text), wanted("storage", number), wanted("region", text))
    return _done(fs_id=_account().add_filesystem(**body).fs_id)


@api.post("/filesystem/edit")
def edit_filesystem() -> ResponseReturnValue:
    body = _body(wanted("fs_id", number), wanted("storage", number))
    return _done(fs_id=_account().grow_filesystem(**body).fs_id)


@api.post("/filesystem/delete")
def delete_filesystem() -> ResponseReturnValue:
    _account().remove_filesystem(_query(wanted("fs_id", number))["fs_id"])
    return _done()


# the account and the catalogue


@api.get("/users/balance")
def balance() -> ResponseReturnValue:
    return {"balance": _account().settings.balance, "grants": 0.0}


@api.get("/users/user_info")
def user_info() -> ResponseReturnValue:
    return {"user_id": "sandbox@example.com", "name": "Sandbox", "country": "NL"}


@api.get("/misc/resource_metrics")
def resource_metrics() -> ResponseReturnValue:
    found = [(each.state, each.template == VM) for each in _account().machines]
    return {
        "running_instances": found.count(("Running", False)),
        "paused_instances": found.count(("Paused", False)),
        "running_vms": found.count(("Running", True)),
        "paused_vms": found.count(("Paused", True)),
        "deployments": 0,
        "filesystems": len(_account().filesystems),
    }


@api.get("/misc/frameworks")
def frameworks() -> ResponseReturnValue:
    return price_list.frameworks()


@api.get("/misc/server_meta")
def server_meta() -> ResponseReturnValue:
    return price_list.server_meta(_account().settings)


@api.get("/misc/")
def currency() -> ResponseReturnValue:
    """Say whether the account is billed in rupees."""
    settings = _account().settings
    return settings.flagged(settings.currency == "INR")
