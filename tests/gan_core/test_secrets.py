"""Addresses lose their secrets and nothing else."""

import pytest

from gan_core import secrets
from gan_core.params import load_params
from gan_core.secrets import hide, hide_all, remember


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:word@host:5000/p?token=abc&x=1#t", "http://***@host:5000/p?token=***&x=***#***"),
        ("https://TOKEN@host/x", "https://***@host/x"),
        ("https://host/x?TOKEN", "https://host/x?***"),
        (
            "postgresql+psycopg2://me:word@db/mlflow?password=word",
            "postgresql+psycopg2://me:***@db/mlflow?password=***",
        ),
        ("postgresql://me@db/mlflow", "postgresql://me@db/mlflow"),
        ("http://me:wo@rd@host/x", "http://***@host/x"),
        ("http://me:wo/rd@host/x", "http://***@host/x"),
        ("http://me:12/rd@host?x=1", "http://***@host"),
        ("me:word@host/x", "***@host/x"),
        ("http://me:wo/rd://x@host/x", "http://***@host/x"),
        ("sqlite:///folder@home/m.db?timeout=3", "sqlite:///folder@home/m.db?timeout=3"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://host/a@b", "https://host/a@b"),
        ("runs/demo", "runs/demo"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: str, shown: str) -> None:
    assert hide(address) == shown == hide(shown)


def test_addresses_in_a_text_are_found() -> None:
    assert hide_all("no route to 'http://a:b@c/x': ask http://d") == "no route to 'http://***@c/x': ask http://d"


def test_what_is_known_is_found_also_where_it_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_known", set())
    remember("http://somebody:wo%20rd@host?key=t0ken&x=1")
    remember("sqlite:///folder/name.db?timeout=5000")
    said = "url: /api?key=t0ken&x=1, login somebody, wo rd or wo%20rd, after 5000 ms"
    assert hide_all(said) == "url: /api?key=***&x=1, login ***, *** or ***, after 5000 ms"


def test_parameters_are_written_without_the_secrets_of_track_uri() -> None:
    params = load_params(overrides={"track.uri": "http://me:word@host"})
    assert params.track.uri == "http://me:word@host"
    assert "word" not in params.model_dump_json() and "word" not in repr(params.model_dump())
