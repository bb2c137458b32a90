"""The sentence of the ledger, and its way back."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpu_ci.ledger.entry import MOST_NOTICES, Entry, notices, read_notice
from gpu_ci.ledger.split import Split
from gpu_ci.model.machine import Price

SENTENCE = (
    "0.1186 USD: gpu-ci-17-1-test-0123456789-0 (g4dn.xlarge, on-demand), 812 s at 0.526 USD/h "
    "(AWS price list of 2026-11-20): boot 95 s, work 640 s, idle 77 s"
)
ENTRY = Entry(
    machine="gpu-ci-17-1-test-0123456789-0",
    type="g4dn.xlarge",
    market="on-demand",
    seconds=812,
    price=Price(per_hour=0.526, source="AWS price list of 2026-11-20"),
    split=Split(boot=95, work=640, idle=77),
)
PRICES = st.none() | st.builds(
    Price,
    per_hour=st.floats(min_value=0, max_value=1e6),
    currency=st.text(max_size=5),
    source=st.text(max_size=30),
)


def test_the_sentence() -> None:
    """Readable for people, and it reads back as the same."""
    assert str(ENTRY) == SENTENCE
    assert Entry.read(SENTENCE) == ENTRY


@given(
    machine=st.text(min_size=1, max_size=40),
    type_=st.text(max_size=20),
    market=st.sampled_from(["on-demand", "spot"]),
    seconds=st.none() | st.floats(min_value=-10, max_value=9e8),
    price=PRICES,
    boot=st.integers(0, 1000),
)
@example(machine="box", type_="", market="spot", seconds=None, price=None, boot=0)
@example(machine="b", type_="a, (b)", market="spot", seconds=1, price=Price(per_hour=1e-9), boot=0)
def test_every_sentence_reads_back(
    *, machine: str, type_: str, market: str, seconds: float | None, price: Price | None, boot: int
) -> None:
    """Whatever a cloud says of types, currencies and sources; and no cost is below zero."""
    whole = 0 if seconds is None else max(0, round(seconds))
    parts = Split(boot=min(boot, whole), work=0, idle=whole - min(boot, whole))
    entry = Entry.of(
        machine=machine,
        type_=type_,
        market=market,
        seconds=seconds,
        price=price,
        split=parts if seconds is not None else None,
    )
    assert Entry.read(str(entry)) == entry
    assert entry.cost is None or entry.cost >= 0


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        SENTENCE + " ",
        SENTENCE.replace("0.1186", "0.0001"),
        SENTENCE.replace("0.1186", "-0.1186"),
        SENTENCE.replace("812 s", "-812 s"),
        SENTENCE.replace("812 s", "81\N{FULLWIDTH DIGIT TWO} s"),
        SENTENCE.replace("0.526 USD/h", "-0.526 USD/h"),
        SENTENCE.replace("0.526 USD/h", "1e999 USD/h"),
        SENTENCE.replace("0.526 USD/h", "nan USD/h"),
        SENTENCE.replace("idle 77 s", "idle 78 s"),
        SENTENCE.replace("0.1186 USD", "unknown cost"),
        SENTENCE.replace("812 s", "an unknown time"),
        SENTENCE.replace("USD:", "EUR:"),
        "hello",
    ],
)
def test_what_contradicts_itself_is_none(sentence: str) -> None:
    """No negative amount, no infinite one, no sum that its parts do not give."""
    assert Entry.read(sentence) is None


def test_an_unknown_price_or_time_is_told() -> None:
    """Never as zero."""
    told = str(Entry(machine="box", type="L4", market="spot", price=ENTRY.price))
    assert told == (
        "unknown cost: box (L4, spot), an unknown time at 0.526 USD/h (AWS price list of 2026-11-20)"
    )
    told = str(Entry(machine="box", type="", market="spot", seconds=5))
    assert told == "unknown cost: box (, spot), 5 s at an unknown price"


@pytest.mark.parametrize("count", [0, 1, MOST_NOTICES, MOST_NOTICES + 1, 50])
def test_the_runner_keeps_every_line(count: int) -> None:
    """It drops what is more than ten notices a step, or longer than 4,096 characters: fifty
    machines are several lines of a few."""
    entries = [
        Entry(machine=f"{'m' * 36}{n}", type="g4dn.xlarge", market="spot", seconds=n)
        for n in range(count)
    ]
    texts = notices(entries)
    assert len(texts) == min(count, MOST_NOTICES)
    assert max(map(len, texts), default=0) < 4096
    read = [entry for text in texts for entry in read_notice(text)[0]]
    assert sorted(map(str, read)) == sorted(map(str, entries))


def test_lines_that_mean_nothing_are_counted() -> None:
    """They are not taken for no cost."""
    assert read_notice(f"{SENTENCE}\nhello\n\n{SENTENCE}") == ([ENTRY, ENTRY], 1)
