"""What a budget says, and whether a start stays within it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import start_env

from gpu_ci.errors import BadInputs, OverBudget
from gpu_ci.inputs.start_inputs import StartInputs
from gpu_ci.model.budget import Budget, Estimate, judge
from gpu_ci.model.machine import Price

ESTIMATE = Estimate(
    price=Price(per_hour=0.526, source="AWS price list of 2026-11-20"), count=1, seconds=21600
)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("", Budget()),
        ("5/run", Budget(run=5)),
        ("200/month", Budget(month=200)),
        ("5/run, 200/month", Budget(run=5, month=200)),
        ("0.50/run\n20 / month", Budget(run=0.5, month=20)),
        ("0/run", Budget(run=0)),
    ],
)
def test_a_budget_is_read(text: str, budget: Budget) -> None:
    """For a run, a month, or both."""
    assert StartInputs.read(start_env(budget=text)).budget == budget
    assert budget.limits == bool(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("5", "'5' is no budget: write 5/run, 200/month, or both"),
        ("5/week", "'5/week' is no budget"),
        ("-5/run", "'-5/run' is no budget"),
        ("$5/run", "is no budget"),
        ("inf/run", "is no budget"),
        ("5e3/run", "is no budget"),
        ("\N{ARABIC-INDIC DIGIT FIVE}/run", "is no budget"),
        ("5/run, 6/run", "there are two for the run"),
    ],
)
def test_what_is_no_budget_is_said(text: str, why: str) -> None:
    """A typo must not mean no limit."""
    with pytest.raises(BadInputs, match="budget: ") as caught:
        StartInputs.read(start_env(budget=text))
    assert why in str(caught.value)


def test_what_fits_is_told_with_its_figures() -> None:
    """A line for each limit."""
    estimate = Estimate(
        price=ESTIMATE.price, count=2, seconds=3600, run_others=1.0, month_others=100.0
    )
    lines = judge(Budget(run=5, month=200), estimate)
    start = (
        "This start may cost 1.05 USD (2 machines at 0.526 USD/h, AWS price list of 2026-11-20, for "
        "60 minutes), and the rest of the "
    )
    assert [line.removeprefix(start) for line in lines] == [
        "run 1.00 USD, 2.05 USD in all, within the budget of 5/run.",
        "month 100.00 USD, 101.05 USD in all, within the budget of 200/month.",
    ]


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    """The numbers, and the lifetime or the budget that would pass."""
    with pytest.raises(OverBudget) as caught:
        judge(Budget(run=3), ESTIMATE)
    assert "3.16 USD in all: more than the budget of 3/run." in str(caught.value)
    assert "max-lifetime-minutes: 342 would pass, and a budget of 3.16/run would pass." in str(
        caught.value
    )


@pytest.mark.parametrize("besides", [3.0, 4.0])
def test_what_is_used_up_is_said(besides: float) -> None:
    """No lifetime would help, so none is named."""
    estimate = Estimate(price=ESTIMATE.price, count=1, seconds=3600, run_others=besides)
    with pytest.raises(OverBudget, match="No max-lifetime-minutes would pass"):
        judge(Budget(run=3), estimate)


def test_a_free_machine_still_counts_what_is_beside_it() -> None:
    """Nothing is divided by its price."""
    free = Estimate(price=Price(per_hour=0.0), count=1, seconds=3600, month_others=9.0)
    assert judge(Budget(run=0), free)
    with pytest.raises(OverBudget):
        judge(Budget(month=8), free)


@given(
    price=st.floats(0.001, 100),
    count=st.integers(1, 50),
    minutes=st.integers(1, 10080),
    besides=st.floats(0, 1000),
    limit=st.floats(0, 1000),
)
def test_the_cure_is_one(
    price: float, count: int, minutes: int, besides: float, limit: float
) -> None:
    """What a refusal says would pass, passes."""
    budget = Budget(run=limit)

    def estimate(of_minutes: int) -> Estimate:
        return Estimate(
            price=Price(per_hour=price), count=count, seconds=of_minutes * 60, run_others=besides
        )

    try:
        judge(budget, estimate(minutes))
    except OverBudget as over:
        enough = over.cure.partition("a budget of ")[2].partition("/run")[0]
        assert judge(Budget.read((f"{enough}/run",)), estimate(minutes))
        if "No max" not in over.cure:
            left = int(over.cure.partition(": ")[2].partition(" ")[0])
            assert judge(budget, estimate(left))
            assert left < minutes
