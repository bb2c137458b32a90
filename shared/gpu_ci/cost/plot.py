"""The ledger as a picture: what each day cost, and for what, and how machine types add up."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Final

from gpu_ci.cost.days import by_part, by_type
from gpu_ci.errors import EnvironmentBroken

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from gpu_ci.cost.days import Series
    from gpu_ci.ledger.read_ledger import Ledger

# Blue, orange, grey and black are told apart by colour-blind readers, and on paper.
COLOURS: Final = {"work": "#0072b2", "boot": "#e69f00", "idle": "#999999", "not split": "#333333"}
MOST_TYPES: Final = 6
MOST_TICKS: Final = 16


def draw(ledger: Ledger, until: float, title: str, file: Path) -> None:
    """Write a PNG. Raises EnvironmentBroken without matplotlib."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 -- the extra `plot`
    except ImportError:
        raise EnvironmentBroken(
            "matplotlib is missing.", "Install gpu-ci[plot], or use --mermaid."
        ) from None
    parts = by_part(ledger.lines, ledger.since, until)
    types = by_type(ledger.lines, ledger.since, until)
    figure = Figure(figsize=(10, 3.4 * max(1, 2 * len(parts))), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(max(1, 2 * len(parts)), squeeze=False)[:, 0]
    if not parts:
        _say_nothing(axes[0])
    for number, (part, kind) in enumerate(zip(parts, types, strict=True)):
        _bars(axes[2 * number], part)
        _lines(axes[2 * number + 1], kind)
    figure.savefig(file, dpi=120, format="png")


def _say_nothing(axes: Axes) -> None:
    axes.axis("off")
    axes.text(0.5, 0.5, "No machine was billed.", ha="center", va="center")


def _bars(axes: Axes, series: Series) -> None:
    bottom = [0.0] * len(series.names)
    for part, colour in COLOURS.items():
        amounts = series.amounts.get(part)
        if amounts and any(amounts):
            axes.bar(series.names, amounts, bottom=bottom, color=colour, label=part, width=0.8)
            bottom = [low + each for low, each in zip(bottom, amounts, strict=True)]
    span = "month" if len(series.names[0]) == len("2026-11") else "day"
    axes.set_title(f"Each {span}; {sum(series.totals):.2f} {series.currency} in all", loc="left")
    _dress(axes, series)


def _lines(axes: Axes, series: Series) -> None:
    for name, amounts in _most(series).items():
        grown = list(accumulate(amounts))
        axes.plot(series.names, grown, marker=".", label=f"{name}: {grown[-1]:.2f}")
    axes.set_title("Added up, by type of machine", loc="left")
    _dress(axes, series)


def _most(series: Series) -> dict[str, tuple[float, ...]]:
    """Return the types that cost most, and all others as one."""
    items = list(series.amounts.items())
    shown, rest = dict(items[:MOST_TYPES]), [amounts for _, amounts in items[MOST_TYPES:]]
    if rest:
        shown[f"{len(rest)} others"] = tuple(sum(each) for each in zip(*rest, strict=True))
    return shown


def _dress(axes: Axes, series: Series) -> None:
    axes.set_ylabel(series.currency)
    axes.set_xlim(-0.6, len(series.names) - 0.4)
    axes.margins(y=0.1)
    axes.set_ylim(bottom=0)
    step = -(-len(series.names) // MOST_TICKS)
    ticks = list(range(0, len(series.names), step))
    axes.set_xticks(ticks, [series.names[at][-5:] for at in ticks])
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:  # free machines have no bars
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
