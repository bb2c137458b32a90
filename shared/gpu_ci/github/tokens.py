"""Who asks GitHub: the tokens of a step, and the first of them that may."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gpu_ci.errors import Absent, Forbidden, Limited
from gpu_ci.github.transport import TRIES, Line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gpu_ci.github.transport import Answer
    from gpu_ci.runtime.clock import Deadline

T = TypeVar("T")


class Credentials(Protocol):
    """Where GitHub is, and as whom to ask: a token for the runners or a GitHub App, and `run_token`,
    the job's own token, which reads runs."""

    @property
    def api_url(self) -> str: ...
    @property
    def token(self) -> str: ...
    @property
    def app_id(self) -> str: ...
    @property
    def app_private_key(self) -> str: ...
    @property
    def run_token(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Access:
    """A repository, the API's root, and the tokens to ask with in their order, "" for none."""

    api_url: str
    repository: str
    tokens: Sequence[str] = field(repr=False)
    say: Callable[[str], None] = print

    def lines(
        self,
        deadline: Deadline,
        cures: Callable[[str], Mapping[int, str]],
        *,
        timeout: int = 15,
        tries: int = TRIES,
    ) -> list[Line]:
        """Return a line for each token, none twice; `cures` says what to do about its refusals."""

        def line(token: str) -> Line:
            return Line(
                self.api_url,
                token,
                deadline,
                self.say,
                timeout=timeout,
                tries=tries,
                cures=cures(token),
            )

        return [line(token) for token in dict.fromkeys(filter(None, self.tokens))]


class Lines:
    """What holds for all lines of a client."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = lines

    @property
    def counted(self) -> int:
        """How many requests so far counted against a rate limit."""
        return sum(line.counted for line in self._lines)

    def until(self, deadline: Deadline) -> None:
        """From now on wait for limits and outages no longer than this deadline."""
        for line in self._lines:
            line.deadline = deadline

    def hurry(self, deadline: Deadline) -> None:
        """From now on every call ends, with an answer or an error, within about two seconds."""
        for line in self._lines:
            line.hurry(deadline)

    def share(self, known: dict[str, Answer]) -> None:
        """Keep the answers that have an ETag here, where a later pass may find them."""
        for line in self._lines:
            line.known = known

    def spare(self, part: float) -> None:
        """From now on leave this part of each hourly limit to others: reading ends before it."""
        for line in self._lines:
            line.spared = part


class FirstThatMay:
    """Asks on one line after another until one may; safe between threads. It needs at least one line.

    `there` is the path, with its query, of something that every token with access can see.
    """

    def __init__(self, lines: Sequence[Line], there: str, **query: Any) -> None:
        self.lines = lines
        self._there = there
        self._query = query
        self._refused: set[tuple[int, str]] = set()

    def ask(self, right: str, ask: Callable[[Line], T], *, learns: bool = True) -> T:
        """Return the answer to the first line that gets one.

        A refused line is not asked again for this right, unless it is the last one. Without `learns`
        the refusal says nothing about the right. Raises Absent only if a line that says so can see
        what is always there.
        """
        last = len(self.lines) - 1
        absent: list[tuple[Line, Absent]] = []
        refusal = Forbidden("There is no token to ask GitHub with.")
        for number, line in enumerate(self.lines):
            if number < last and (number, right) in self._refused:
                continue
            try:
                return ask(line)
            except Absent as error:
                absent.append((line, error))
                refusal = Forbidden(error.what, error.cure)
            except Forbidden as error:
                refusal = error
                if learns:
                    self._refused.add((number, right))
            except Limited:
                if number == last:
                    raise
        for line, answer in reversed(absent):
            if self._sees(line):
                raise answer
        raise refusal

    def _sees(self, line: Line) -> bool:
        """Say whether the token may see the rest: if it may not, GitHub answers 404 too."""
        try:
            line.get(self._there, **self._query)
        except (Absent, Forbidden):
            return False
        return True
