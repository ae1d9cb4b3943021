from __future__ import annotations

import pytest

from shanty_runtime.bus import login_of
from shanty_runtime.config import read_settings
from shanty_runtime.errors import ConfigError


def test_every_setting_has_a_default_and_each_process_a_name_of_its_own() -> None:
    first, second = read_settings({}), read_settings({})
    assert first.nats_url == "nats://127.0.0.1:4222" and first.lanes == ("0",)
    assert first.replica and first.replica != second.replica


def test_settings_are_read_by_their_names_in_capitals() -> None:
    settings = read_settings({"SHANTY_LEASE_S": "3", "SHANTY_LANES": "0,1", "SHANTY_REHEARSAL_PACE_S": "0.5"})
    assert (settings.lease_s, settings.lanes, settings.rehearsal_pace_s) == (3, ("0", "1"), 0.5)


def test_an_agent_hears_its_answers_under_its_own_name_unless_it_is_told_otherwise() -> None:
    named = login_of("logs", read_settings({"SHANTY_NATS_ZONE": "agent"}), name="logs-1")
    told = login_of("logs", read_settings({"SHANTY_NATS_INBOX_PREFIX": "_INBOX.somewhere"}), name="logs-1")
    assert (named.inbox_prefix, named.zone) == ("_INBOX_logs", "agent")
    assert (told.inbox_prefix, told.zone) == ("_INBOX.somewhere", "control")


def test_everything_that_is_wrong_is_named_at_once() -> None:
    wrong = {
        "SHANTY_LEASE_S": "soon",
        "SHANTY_HTTP_PORT": "-1",
        "SHANTY_LANES": "a",
        "SHANTY_LOG_FORMAT": "xml",
        "SHANTY_CONCURRENCY": "0",
        "SHANTY_NATS_ZONE": "lead",
    }
    with pytest.raises(ConfigError) as raised:
        read_settings(wrong)
    for variable in wrong:
        assert variable in str(raised.value)
