"""Attributes that are worked out when they are first asked for."""

import inspect

import msgspec
import pytest

from shanty_protocol import EntryAddress
from shanty_protocol.lazy import lazy


class Sum(msgspec.Struct, frozen=True, dict=True):
    numbers: tuple[int, ...]
    times: list[int] = []

    @lazy
    def total(self) -> int:
        """All of them together."""
        self.times.append(1)
        return sum(self.numbers)


def test_it_is_worked_out_once_for_each_that_has_it() -> None:
    first, second = Sum((1, 2)), Sum((3, 4))
    assert (first.total, first.total, second.total) == (3, 3, 7)
    assert (len(first.times), len(second.times)) == (1, 1)


def test_what_could_not_be_worked_out_is_tried_again() -> None:
    class Once:
        tries = 0

        @lazy
        def value(self) -> int:
            self.tries += 1
            return 1 // (self.tries - 1)

    once = Once()
    with pytest.raises(ZeroDivisionError):
        once.value  # noqa: B018  # asking for it is what fails
    assert once.value == 1


def test_it_is_no_field_and_two_that_are_equal_stay_so_once_one_was_asked() -> None:
    asked, not_asked = EntryAddress("a", "0-r", "0", "b", 0), EntryAddress("a", "0-r", "0", "b", 0)
    assert asked.subject == "shanty.0.a.0-r.0.b.0"
    assert asked == not_asked and hash(asked) == hash(not_asked)
    assert "subject" not in [field.name for field in msgspec.structs.fields(EntryAddress)]


def test_a_class_can_be_looked_through() -> None:
    assert isinstance(Sum.total, lazy)
    assert inspect.getdoc(Sum.total) == "All of them together."
    assert "subject" in dict(inspect.getmembers(EntryAddress))
