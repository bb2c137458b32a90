"""How GitHub lists: page by page, filtered no further than its limit, with times as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from gpu_ci.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpu_ci.github.transport import Answer

PAGE: Final = 100
MOST_PAGES: Final = 500
# A listing with a filter ends after this many runs.
# https://docs.github.com/en/rest/actions/workflow-runs
MOST_FILTERED: Final = 1000
T = TypeVar("T")


class Dated(Protocol):
    """What a listing is ordered by: GitHub's id, and when it was created, in seconds since the epoch."""

    @property
    def id(self) -> int: ...
    @property
    def created_at(self) -> float: ...


DatedT = TypeVar("DatedT", bound=Dated)


def pages(ask: Callable[..., Answer], key: str, reader: Callable[[Any], T]) -> Iterator[T]:
    """Yield the items of every page; the pages end where GitHub links no next one.

    `key` is where the items are in the JSON, "" where it is a bare list. `total_count` is not
    trusted: it can be more than the pages give. Nor is the linked address.
    """
    for page in range(1, MOST_PAGES + 1):
        answer = ask(per_page=PAGE, page=page)
        items = answer.read(lambda data: [reader(item) for item in (data[key] if key else data)])
        yield from items
        if not items or 'rel="next"' not in answer.headers.get("link", ""):
            return
    raise Unreachable(f"{answer.what}: GitHub gives more than {MOST_PAGES} pages.")


def filtered(read: Callable[[str], Iterator[DatedT]]) -> Iterator[DatedT]:
    """Yield the runs of a filtered listing, newest first, each once, also those behind its end.

    `read` lists the runs up to a time, as GitHub writes it; "" is no limit.
    """
    known: set[int] = set()
    until = ""
    while True:
        listed: list[DatedT] = []
        for run in read(until):
            listed.append(run)
            if run.id not in known:
                known.add(run.id)
                yield run
        if len(listed) < MOST_FILTERED:
            return
        before, until = until, written(listed[-1].created_at)
        if until == before:
            return


def moment(text: object) -> float:
    """Return GitHub's written time in seconds since the epoch, 0 where there is none."""
    return datetime.fromisoformat(str(text)).timestamp() if text else 0.0


def written(seconds: float) -> str:
    """Return a moment as GitHub writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
