"""Holds requests against GitHub's published API description, as `githubkit` was generated from it.

Needs `githubkit` to be installed; reads of it only what the requests in question call for.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpu_ci_sandbox.faults import Request

VERSION = "2026-03-10"
SCHEMAS = "githubkit_schemas.v2026_03_10"
CLIENTS = ("actions", "apps", "checks", "issues", "repos", "rate_limit")
METHODS = "GET|POST|PUT|PATCH|DELETE"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of the API as a client method of githubkit declares it.

    `query` and `path_types` map a parameter to a type's name or to the values that it may have;
    `models` are the names of the models that the body may follow, none if there is no body.
    """

    method: str
    path: str
    query: dict[str, str | frozenset[str]]
    path_types: dict[str, str | frozenset[str]]
    models: tuple[str, ...]


def assert_valid_requests(requests: Iterable[Request]) -> None:
    """Raise AssertionError that lists whatever the description does not know or allow.

    Looks at method, path, names and values of the query, fields of the body and the version
    header. The stand-in's private paths (`/_…`) are passed over.
    """
    found = [
        f"{request.number} {request.method} {request.target}: {problem}"
        for request in requests
        if not request.path.startswith("/_")
        for problem in problems(request)
    ]
    if found:
        raise AssertionError("\n".join(found))


def problems(request: Request) -> Iterator[str]:
    """What is wrong with a request, in words."""
    sent = request.headers.get("x-github-api-version")
    if sent != VERSION:
        yield f"X-GitHub-Api-Version is {sent}, not {VERSION}"
    operation = operation_of(request.method, request.path)
    if operation is None:
        yield "no such operation"
        return
    yield from _path_problems(operation, request.path)
    yield from _query_problems(operation, request.query)
    yield from _body_problems(operation, request)


def operation_of(method: str, path: str) -> Operation | None:
    """The operation that a request is for; of several the one with the fewest parameters."""
    fitting = [
        template
        for verb, template in _sources()
        if verb == method and _pattern(template).fullmatch(path)
    ]
    if not fitting:
        return None
    return _operation(method, min(fitting, key=lambda template: template.count("{")))


def _path_problems(operation: Operation, path: str) -> Iterator[str]:
    match = _pattern(operation.path).fullmatch(path)
    for name, value in match.groupdict().items() if match else ():
        if not _fits(value, operation.path_types[name]):
            yield f"{name} may not be {value!r}"


def _query_problems(operation: Operation, query: str) -> Iterator[str]:
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in operation.query:
            yield f"unknown query parameter {name}"
        elif not _fits(value, operation.query[name]):
            yield f"query parameter {name} may not be {value!r}"


def _fits(value: str, declared: str | frozenset[str]) -> bool:
    if isinstance(declared, frozenset):
        return value in declared
    if declared == "int":
        return value.isdecimal()
    return declared != "bool" or value in {"true", "false"}


def _body_problems(operation: Operation, request: Request) -> Iterator[str]:
    if not operation.models:
        if request.body:
            yield "takes no body"
        return
    if request.body and not request.headers.get("content-type", "").startswith("application/json"):
        yield "the body is not declared to be JSON"
    yield from _field_problems(operation, request.body or "{}")


def _field_problems(operation: Operation, body: str) -> Iterator[str]:
    from pydantic import ValidationError  # noqa: PLC0415 -- comes with githubkit, a test dependency

    models = [_model(name) for name in operation.models]
    known = {field.alias or name for each in models for name, field in each.model_fields.items()}
    for name in json.loads(body).keys() - known:
        yield f"unknown field {name}"
    wrong = []
    for model in models:
        try:
            model.model_validate_json(body, strict=True)
        except ValidationError as error:
            wrong.append(f"{model.__name__}: {error}")
        else:
            return
    yield from wrong


def _model(name: str) -> Any:
    return getattr(import_module(f"{SCHEMAS}.models"), name)


@cache
def _pattern(template: str) -> re.Pattern[str]:
    # Only a file's path has slashes in it; that of the repository's root is empty.
    slashed = re.escape(template).replace(r"\{path\}", "(?P<path>.*)")
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", slashed))


@cache
def _sources() -> dict[tuple[str, str], str]:
    """The source of each client method by its HTTP method and path template."""
    found = {}
    for client in CLIENTS:
        text = (files(f"{SCHEMAS}.rest") / f"{client}.py").read_text(encoding="utf-8")
        for block in re.split(r"\n(?=    def )", text):
            source = re.split(r"\n    (?:async def|@)", block)[0]
            documented = re.search(rf"^ +({METHODS}) (/\S+)$", source, re.MULTILINE)
            if documented:
                found[documented[1], documented[2]] = source
    return found


@cache
def _operation(method: str, path: str) -> Operation:
    function = ast.parse(textwrap.dedent(_sources()[method, path])).body[0]
    if not isinstance(function, ast.FunctionDef):
        raise TypeError(f"{method} {path} is not a client method")
    declared = {
        argument.arg: _type(argument.annotation)
        for argument in (*function.args.args, *function.args.kwonlyargs)
    }
    return Operation(
        method=method,
        path=path,
        query={name: declared[argument] for name, argument in _params(function)},
        path_types=declared,
        models=tuple(_body_models(function)),
    )


def _type(annotation: ast.expr | None) -> str | frozenset[str]:
    """`Missing[int]` is int, `Missing[Literal["a", "b"]]` is {a, b}."""
    match annotation:
        case ast.Name(id=name):
            return name
        case ast.Subscript(value=ast.Name(id="Literal"), slice=values):
            constants = (node for node in ast.walk(values) if isinstance(node, ast.Constant))
            return frozenset(str(constant.value) for constant in constants)
        case ast.Subscript(value=ast.Name(id="Missing"), slice=inner):
            return _type(inner)
        case _:
            return "anything"


def _params(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id="params")], value=ast.Dict() as given):
                for key, value in zip(given.keys, given.values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(value, ast.Name):
                        yield str(key.value), value.id
            case _:
                pass


def _body_models(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Name(id="type_validate_python"), args=[models, _]):
                for each in ast.walk(models):
                    if isinstance(each, ast.Name) and each.id not in {"Union", "None"}:
                        yield each.id
            case _:
                pass
