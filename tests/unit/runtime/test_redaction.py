from __future__ import annotations

import pytest

from shanty_runtime.redaction import redact


def test_values_of_secret_variables_and_texts_of_a_keys_form_are_cut_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLING_API_KEY", "hunter2-hunter2")
    monkeypatch.setenv("BILLING_TOKEN", "hunter2-hunter2-and-more")
    monkeypatch.setenv("BILLING_REGION", "eu-central-1")
    assert redact("key hunter2-hunter2, token hunter2-hunter2-and-more, region eu-central-1") == (
        "key [redacted], token [redacted], region eu-central-1"
    )
    for secret in (
        "sk-ant-api03-abcdefghijklmnopqrstuvwxyz",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
        "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
    ):
        assert redact(f"<{secret}>") == "<[redacted]>"


def test_a_value_too_short_to_be_a_secret_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORT_KEY", "name")
    assert redact("the name of the author") == "the name of the author"


def test_a_path_that_leads_to_a_secret_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHANTY_NATS_NKEY_SEED", "/run/secrets/logs.nk")
    monkeypatch.setenv("SHANTY_NATS_TOKEN", "hunter2-hunter2")

    assert (
        redact("/run/secrets/logs.nk does not fit hunter2-hunter2") == "/run/secrets/logs.nk does not fit [redacted]"
    )
