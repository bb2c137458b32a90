"""The ledger as a Mermaid chart, which GitHub draws in summaries and comments. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gpu_ci.cost.days import by_part

if TYPE_CHECKING:
    from gpu_ci.cost.days import Series
    from gpu_ci.ledger.read_ledger import Ledger


def charts(ledger: Ledger, until: float, title: str) -> list[str]:
    """Return a bar chart for each currency; none where nothing was spent.

    https://mermaid.js.org/syntax/xyChart.html
    """
    return [_chart(series, title) for series in by_part(ledger.lines, ledger.since, until)]


def _chart(series: Series, title: str) -> str:
    named = f"{title}: {sum(series.totals):.2f} {series.currency}"
    top = max(series.totals) * 1.1 or 1.0
    return "\n".join(
        (
            "xychart-beta",
            f"    title {_quoted(named)}",
            f"    x-axis [{', '.join(_quoted(name[-5:]) for name in series.names)}]",
            f"    y-axis {_quoted(series.currency)} 0 --> {top:.4f}",
            f"    bar [{', '.join(f'{each:.4f}' for each in series.totals)}]",
        )
    )


def _quoted(text: str) -> str:
    """Return text that may stand between Mermaid's quotes: Mermaid has no escape for a quote, and
    reads #…; as the code of a character."""
    return '"' + re.sub(r"[\"`#;\\\s]+", " ", text).strip() + '"'


def fenced(chart: str) -> str:
    """Return a chart as a block of Markdown."""
    return f"```mermaid\n{chart}\n```"
