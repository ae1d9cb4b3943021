"""What a model call costs, by a list that is data: `prices.toml`, and before it the file SHANTY_PRICES names.

    cost_usd("claude-opus-5-5", reply.usage, datetime.now(UTC))

None means that the cost is not known, for instance because the list does not have the model. It never means nothing.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import os
import tomllib
from collections.abc import Iterable
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from shanty_protocol import Usage
from shanty_runtime.errors import ConfigError
from shanty_runtime.models.capabilities import undated

PER = Decimal(1_000_000)


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens of one model, from one day on, for prompts up to one size."""

    model: str
    since: dt.date = dt.date.min
    up_to_prompt_tokens: int | None = None
    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None

    def cost_usd(self, usage: Usage) -> Decimal | None:
        parts = (
            (usage.input_tokens, self.input),
            (usage.output_tokens, self.output),
            (usage.cache_read_tokens, self.cache_read),
            (usage.cache_write_tokens, self.cache_write),
        )
        cost = Decimal(0)
        for tokens, price in parts:
            if tokens and price is None:
                return None
            cost += tokens * (price or 0) / PER
        return cost


class PriceFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prices: tuple[Price, ...]


class PriceList:
    def __init__(self, prices: Iterable[Price]) -> None:
        self._by_model: dict[str, list[Price]] = {}
        for price in prices:
            self._by_model.setdefault(price.model, []).append(price)

    def before(self, other: PriceList) -> PriceList:
        """This list, and for the models it does not have the other."""
        joined = PriceList(())
        joined._by_model = {**other._by_model, **self._by_model}
        return joined

    def cost_usd(self, model: str, usage: Usage, at: dt.datetime) -> Decimal | None:
        """What a call at that time cost; None where that is not known."""
        prices = self._by_model.get(model) or self._by_model.get(undated(model), [])
        day = at.astimezone(dt.UTC).date()
        newest = max((price.since for price in prices if price.since <= day), default=None)
        prompt_tokens = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        bands = [
            price
            for price in prices
            if price.since == newest
            and (price.up_to_prompt_tokens is None or prompt_tokens <= price.up_to_prompt_tokens)
        ]
        narrowest = min(bands, key=_width, default=None)
        return None if narrowest is None else narrowest.cost_usd(usage)

    def cost_micro_usd(self, model: str, usage: Usage, at_ms: int) -> int | None:
        """The same in millionths of a dollar, rounded up, for a time in milliseconds since 1970."""
        cost = self.cost_usd(model, usage, dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC))
        return None if cost is None else math.ceil(cost * PER)


def _width(price: Price) -> float:
    return float("inf") if price.up_to_prompt_tokens is None else price.up_to_prompt_tokens


def cost_usd(model: str, usage: Usage, at: dt.datetime) -> Decimal | None:
    """What a call of a model cost at that time, by the list in force; None where that is not known."""
    return prices_in_force(os.environ.get("SHANTY_PRICES", "")).cost_usd(model, usage, at)


@functools.cache
def prices_in_force(own_file: str) -> PriceList:
    """The list that comes with Shanty, and before it the operator's. Raises ConfigError where that cannot be read."""
    shipped = _read(resources.files("shanty_runtime.models").joinpath("prices.toml").read_text(), "prices.toml")
    if not own_file:
        return shipped
    try:
        text = Path(own_file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"SHANTY_PRICES: {own_file} cannot be read: {error}") from error
    return _read(text, f"SHANTY_PRICES: {own_file}").before(shipped)


def _read(text: str, name: str) -> PriceList:
    try:
        # Decimals from the first digit on: a float of a price is not that price.
        content: dict[str, Any] = tomllib.loads(text, parse_float=Decimal)
        return PriceList(msgspec.convert(content, PriceFile).prices)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{name} is not a price list: {error}") from error
