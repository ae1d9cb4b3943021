from __future__ import annotations

import pytest

from support.script import Script


@pytest.fixture
def script() -> Script:
    """A run of which nothing has been stored yet."""
    return Script()
