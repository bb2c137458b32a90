"""Pagination: a page of a list, its total, and the Link header to the other pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from flask import jsonify, request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flask import Response

DEFAULT_PER_PAGE = 30
MAX_PER_PAGE = 100

T = TypeVar("T")


def page(name: str, items: Sequence[T], shape: Callable[[T], dict[str, Any]]) -> Response:
    """`{"total_count": …, name: […]}` with the items of the page that the request asks for."""
    size = min(_number("per_page", DEFAULT_PER_PAGE), MAX_PER_PAGE)
    number = _number("page", 1)
    last = max(1, -(-len(items) // size))
    shown = items[(number - 1) * size : number * size]
    response = jsonify({"total_count": len(items), name: [shape(item) for item in shown]})
    links = _links(number, last)
    if links:
        response.headers["Link"] = links
    return response


def _number(name: str, default: int) -> int:
    value = request.args.get(name, default, type=int)
    return value if value > 0 else default


def _links(number: int, last: int) -> str:
    others = {"prev": number - 1, "next": number + 1, "last": last, "first": 1}
    if number >= last:
        del others["next"], others["last"]
    if number <= 1:
        del others["prev"], others["first"]
    return ", ".join(f'<{_address(page)}>; rel="{rel}"' for rel, page in others.items())


def _address(number: int) -> str:
    query = request.args.to_dict() | {"page": str(number)}
    return f"{request.base_url}?{urlencode(query)}"
