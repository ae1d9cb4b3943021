from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pytest

from shanty_protocol import Usage
from shanty_runtime.errors import ConfigError
from shanty_runtime.models.prices import cost_usd, prices_in_force

NOW = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
MILLION = 1_000_000


@pytest.mark.parametrize(
    ("model", "usage", "cost"),
    [
        ("claude-opus-5-5", Usage(input_tokens=MILLION), "4"),
        ("claude-opus-5-5", Usage(output_tokens=MILLION), "20"),
        ("claude-opus-5-5", Usage(cache_read_tokens=MILLION), "0.2"),
        ("claude-opus-5-5", Usage(cache_write_tokens=MILLION), "5"),
        ("claude-opus-5-5", Usage(input_tokens=10, output_tokens=3, cache_read_tokens=100), "0.00012"),
        ("claude-fable-5-2", Usage(input_tokens=1, output_tokens=1), "0.000048"),
        ("claude-haiku-4-5-20251001", Usage(input_tokens=MILLION), "1"),
    ],
)
def test_a_call_costs_what_its_parts_cost(model: str, usage: Usage, cost: str) -> None:
    assert cost_usd(model, usage, NOW) == Decimal(cost)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(input_tokens=100_000), "0.01"),
        (Usage(input_tokens=100_001), "0.0500005"),
        # The whole prompt decides, whatever part of it comes from the cache.
        (Usage(input_tokens=1, cache_read_tokens=99_999), "0.00100009"),
        (Usage(input_tokens=1, cache_read_tokens=100_000), "0.0050005"),
        (Usage(input_tokens=1, cache_write_tokens=100_000), "0.0625005"),
        (Usage(output_tokens=200_000), "0.1"),
    ],
)
def test_the_size_of_the_prompt_decides_the_band(usage: Usage, cost: str) -> None:
    assert cost_usd("claude-haiku-5-5", usage, NOW) == Decimal(cost)


def test_a_call_costs_what_it_cost_on_its_day() -> None:
    read = Usage(cache_read_tokens=MILLION)
    last_moment = dt.datetime(2026, 10, 6, 23, 59, 59, tzinfo=dt.UTC)
    assert cost_usd("claude-sonnet-5-5", read, last_moment) == Decimal("0.20")
    assert cost_usd("claude-sonnet-5-5", read, last_moment + dt.timedelta(seconds=1)) == Decimal("0.10")
    elsewhere = dt.datetime(2026, 10, 7, 1, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert cost_usd("claude-sonnet-5-5", read, elsewhere) == Decimal("0.20")


@pytest.mark.parametrize("model", ["claude-opus-9", "rehearsal", ""])
def test_the_cost_of_an_unknown_model_is_unknown_and_not_nothing(model: str) -> None:
    assert cost_usd(model, Usage(input_tokens=1), NOW) is None


def test_before_its_first_price_a_model_has_none() -> None:
    assert cost_usd("claude-fable-5-2", Usage(input_tokens=1), dt.datetime(2026, 11, 8, tzinfo=dt.UTC)) is None


def test_an_operators_list_goes_before_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[[prices]]\nmodel = "claude-sonnet-5-5"\ninput = 1.1\noutput = 7\n')
    monkeypatch.setenv("SHANTY_PRICES", str(own))
    assert cost_usd("claude-sonnet-5-5", Usage(input_tokens=MILLION), NOW) == Decimal("1.1")
    assert cost_usd("claude-sonnet-5-5", Usage(input_tokens=1, cache_read_tokens=1), NOW) is None
    assert cost_usd("claude-opus-5-5", Usage(input_tokens=MILLION), NOW) == 4


def test_millionths_of_a_dollar_are_rounded_up() -> None:
    at_ms = int(NOW.timestamp() * 1000)
    prices = prices_in_force("")
    assert prices.cost_micro_usd("claude-opus-5-5", Usage(cache_read_tokens=1), at_ms) == 1
    assert prices.cost_micro_usd("claude-opus-5-5", Usage(input_tokens=3), at_ms) == 12
    assert prices.cost_micro_usd("claude-opus-9", Usage(input_tokens=3), at_ms) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prices = [", "is not a price list"),
        ('[[prices]]\nmodel = "m"\ninput = 1\n', "missing required field `output`"),
        ('[[prices]]\nmodel = "m"\ninput = 1\noutput = 1\ncached = 1\n', "unknown field `cached`"),
    ],
)
def test_a_list_that_cannot_be_read_is_named(tmp_path: Path, text: str, problem: str) -> None:
    own = tmp_path / "own.toml"
    own.write_text(text)
    with pytest.raises(ConfigError, match=rf"own\.toml.*{problem}"):
        prices_in_force(str(own))


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SHANTY_PRICES: .*none\.toml cannot be read"):
        prices_in_force(str(tmp_path / "none.toml"))
