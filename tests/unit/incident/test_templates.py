from __future__ import annotations

from deploy.teams.incident.analysis.templates import OVERFLOW, TemplateMiner, mask_word


def texts(messages: list[str]) -> list[str]:
    miner = TemplateMiner()
    for message in messages:
        miner.add(message)
    return sorted(template.text for template in miner.templates)


def test_what_varies_is_masked_and_names_are_kept() -> None:
    words = [
        "8f3a9c01bd",
        "10.2.0.9:8080",
        "/var/lib/app/data.db",
        "http://orders.internal:80/v1/items/9",
        "42ms",
        "x509",
        "orders-api",
    ]

    assert [mask_word(word) for word in words] == [
        "<*>",
        "<*>",
        "<*>",
        "http://orders.internal:<*>/<*>",
        "<*>",
        "x509",
        "orders-api",
    ]


def test_messages_that_differ_in_ids_share_a_template() -> None:
    assert texts([f"order {n} of user u{n} shipped in {n}ms" for n in range(50)]) == [
        "order <*> of user <*> shipped in <*>"
    ]


def test_a_word_that_differs_becomes_a_wildcard() -> None:
    assert texts(["session opened for user amy", "session opened for user bob"]) == ["session opened for user <*>"]


def test_messages_about_different_things_stay_apart() -> None:
    assert texts(["cache refreshed in background", "payment declined by issuer bank"]) == [
        "cache refreshed in background",
        "payment declined by issuer bank",
    ]


def test_the_number_of_templates_is_bounded() -> None:
    miner = TemplateMiner(max_templates=20)
    letters = "abcdefghijklmnopqrstuvwxyz"
    for a in letters:
        for b in letters:
            miner.add(f"{a}{b}{a} {b}{a}{b} {a}{a}")

    assert len(miner.templates) <= 21
    assert OVERFLOW in {template.text for template in miner.templates}
