"""Proxies: the servers on this machine are reached without them, whatever the environment says."""

import httpx
import pytest

from flows.proxies import direct_environment, unusable_proxies
from flows.servers import quiet_environment

VARIABLES = [spelt for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for spelt in (name, name.upper())]
SOCKS = "socks5://127.0.0.1:9"
EXCEPTIONS = ".corp.example, 10.0.0.0/8,[::1],fe80::/10,::1/128,bücher.example,host:8080,127.0.0.1"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("proxy", ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "127.0.0.1:9", SOCKS, "socks4://h:1", "http://h:port"])
@pytest.mark.parametrize("exceptions", [{}, {"NO_PROXY": ".corp.example"}, {"no_proxy": EXCEPTIONS}, {"NO_PROXY": "*"}])
def test_a_client_reaches_this_machine_whatever_the_proxy(
    monkeypatch: pytest.MonkeyPatch, proxy: str, address: str, exceptions: dict[str, str]
) -> None:
    for name, value in ({proxy: address} | exceptions).items():
        monkeypatch.setenv(name, value)
    for name, value in quiet_environment().items():
        monkeypatch.setenv(name, value)
    mounts = httpx._utils.get_environment_proxies()
    for host in ("127.0.0.1", "localhost", "[::1]"):
        asked = [httpx._utils.URLPattern(pattern) for pattern in mounts]
        first = next((p for p in sorted(asked) if p.matches(httpx.URL(f"http://{host}:4200/api"))), None)
        assert first is None or mounts[first.pattern] is None
    for given in filter(None, mounts.values()):
        httpx.HTTPTransport(proxy=given).close()


def test_what_is_there_stays_in_both_spellings() -> None:
    there = {"NO_PROXY": ".corp.example,10.0.0.0/8"}
    added = ".corp.example,10.0.0.0/8,127.0.0.1,localhost,::1,0.0.0.0"
    assert direct_environment(there) == {"no_proxy": added, "NO_PROXY": added}
    assert direct_environment(there, ["10.1.2.3", "127.0.0.1"])["no_proxy"] == f"{added},10.1.2.3"
    assert direct_environment({"no_proxy": "*"})["NO_PROXY"] == "*"
    assert direct_environment({"HTTPS_PROXY": "http://h:1"}).get("HTTPS_PROXY") is None


def test_a_proxy_that_would_end_every_command_is_given_up_by_name() -> None:
    environment = {"all_proxy": "socks4://h:1", "HTTP_PROXY": "http://h:1"}
    assert unusable_proxies(environment) == ["all_proxy"]
    assert direct_environment(environment)["all_proxy"] == ""
