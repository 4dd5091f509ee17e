"""What commands say of an address at which no server answers that they can use."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows import prefect_api, servers
from flows.doctor import examine
from gan_core.errors import UserError

REPLIES = {
    "good": (200, '"3.8.8"'),
    "old": (200, '"2.20.1"'),
    "page": (200, "<html>"),
    "other": (200, "{}"),
    "gone": (404, "{}"),
    "login": (401, "{}"),
    "forbidden": (403, "{}"),
    "broken": (500, "oops"),
}
NO_API = "is no API of a Prefect server: it has to begin with http and to end in /api"
LOGIN = "wants a login: set PREFECT_API_AUTH_STRING to its user:password"
GONE = "http://127.0.0.1:9/api"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a server that replies as the first part of the path says."""

    class Replies(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is http.server's
            status, body = REPLIES[self.path.split("/")[1]]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Replies) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_version_at_an_address_is_told_and_nothing_where_no_server_answers(address: str) -> None:
    assert prefect_api.ask_version(f"{address}/good/api") == "3.8.8"
    assert prefect_api.ask_version(f"{address}/broken/api") == prefect_api.ask_version(GONE) == ""
    assert prefect_api.ask_version("https://api.prefect.cloud/api/accounts/x/workspaces/y") == prefect_api.CLOUD


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        *((reply, NO_API) for reply in ("page", "other", "gone")),
        *((reply, LOGIN) for reply in ("login", "forbidden")),
        ("old", "is Prefect 2.20.1, and 3.x is needed"),
    ],
)
def test_a_server_that_cannot_be_used_is_told_in_one_line(
    address: str, reply: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_API_URL", f"{address}/{reply}/api")
    with pytest.raises(UserError) as refused:
        servers.use_prefect_server()
    assert str(refused.value).startswith(f"PREFECT_API_URL={address}/{reply}/api {told}")


@pytest.mark.parametrize("wrong", ["127.0.0.1:4200/api", "localhost", "http://[::1/api"])
def test_an_address_that_is_none_is_told_in_one_line(wrong: str) -> None:
    with pytest.raises(UserError, match="is no API of a Prefect server"):
        prefect_api.ask_version(wrong)


def test_doctor_asks_the_server_that_runs_use(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(servers, "find", lambda _: None)

    def found(given: str) -> tuple[bool, str]:
        monkeypatch.setenv("PREFECT_API_URL", given)
        (check,) = (check for check in examine() if check.name == "PREFECT_API_URL")
        return check.fine, check.found

    assert found(f"{address}/good/api") == (True, f"{address}/good/api: Prefect 3.8.8")
    assert found(GONE) == (False, f"{GONE}: does not answer")
    assert found(f"{address}/page/api") == (False, f"PREFECT_API_URL={address}/page/api {NO_API}")
    for look in ("find", "_record"):
        monkeypatch.setattr(servers, look, lambda name: servers.Running(1, [], 9) if name == "prefect" else None)
    own = "in place of this project's own at http://127.0.0.1:9"
    assert found(f"{address}/good/api") == (True, f"{address}/good/api: Prefect 3.8.8, {own}")
    assert found(GONE) == (False, f"{GONE}: does not answer")
    monkeypatch.setenv("PREFECT_API_URL", "")
    assert "PREFECT_API_URL" not in {check.name for check in examine()}
