from __future__ import annotations

import pytest

from shanty_cli.exits import UsageError
from shanty_cli.init_bus import bytes_of


@pytest.mark.parametrize(
    ("said", "size_bytes"),
    [("4096", 4096), ("512M", 512 * 2**20), ("8G", 2**33), ("8GiB", 2**33), ("1K", 1024), ("2TB", 2**41)],
)
def test_a_number_of_bytes_may_have_a_unit(said: str, size_bytes: int) -> None:
    assert bytes_of(said) == size_bytes


@pytest.mark.parametrize("said", ["0", "-1", "8 G", "G", "8X", "1.5G", "08"])
def test_what_is_no_number_of_bytes_is_refused_with_an_example(said: str) -> None:
    with pytest.raises(UsageError, match="512M, 8G, 2T"):
        bytes_of(said)
