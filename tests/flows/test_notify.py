"""A run that fails tells the webhook, and a webhook that fails hinders nobody."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from flows.compare_encoders import compare_encoders
from flows.compose_dataset import compose_dataset
from flows.edit_dataset import edit_dataset
from flows.notify import ADDRESS, notify
from flows.reevaluate import reevaluate_nightly
from flows.train_models import train_models
from flows.translate_dataset import translate_dataset

RUN: Any = SimpleNamespace(name="runs/demo")
STATE: Any = SimpleNamespace(name="Failed", message="DataError: shard-00001 is spoiled")


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What a webhook is told."""
    told: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.delenv("PREFECT_API_URL", raising=False)
        monkeypatch.setenv(ADDRESS, f"http://127.0.0.1:{server.server_port}")
        yield told
        server.shutdown()
        thread.join()


def test_the_webhook_is_told_in_one_line(webhook: list[Any]) -> None:
    notify(None, RUN, STATE)
    assert webhook == [{"text": "runs/demo: failed: DataError: shard-00001 is spoiled"}]


def test_nobody_is_told_where_no_address_is_set(webhook: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ADDRESS)
    notify(None, RUN, STATE)
    assert webhook == []


def test_a_webhook_that_does_not_answer_is_only_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for address in ("http://127.0.0.1:9", "no address"):
        monkeypatch.setenv(ADDRESS, address)
        notify(None, RUN, STATE)
    assert caplog.text.count(f"could not post to {ADDRESS}: ") == 2


def test_every_flow_that_people_wait_for_tells() -> None:
    waited_for: list[Any] = [
        edit_dataset,
        compose_dataset,
        translate_dataset,
        compare_encoders,
        reevaluate_nightly,
        train_models,
    ]
    for flow in waited_for:
        assert notify in flow.on_failure_hooks and notify in flow.on_crashed_hooks, flow.name


def test_the_address_of_the_webhook_is_in_no_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ADDRESS, "hooks.example/s3cret")
    notify(None, RUN, STATE)
    assert "could not post" in caplog.text and "s3cret" not in caplog.text
