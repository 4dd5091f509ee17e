"""Proxies in the environment, such that they are not in the way of the servers on this machine."""

from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from ipaddress import ip_address

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
HERE = ("127.0.0.1", "localhost", "::1", "0.0.0.0")


def direct_environment(environment: Mapping[str, str], own: Iterable[str] = ()) -> dict[str, str]:
    """Return the variables to change so that this machine's own servers are reached without a proxy.

    ``own`` are further addresses of this machine, those that the project's servers listen at.
    They are added to the exceptions that are there, in both spellings. An exception that Prefect's client can't read is
    left out, and a proxy that it can't use is given up (``unusable_proxies``): either would end every command.
    """
    exceptions = environment.get("no_proxy") or environment.get("NO_PROXY", "")  # in the order of the clients
    kept = [each for part in exceptions.split(",") if (each := part.strip()) and _is_exception(each)]
    added = [] if "*" in kept else [each for each in dict.fromkeys([*HERE, *own]) if each not in kept]
    return dict.fromkeys(_both("no_proxy"), ",".join(kept + added)) | dict.fromkeys(unusable_proxies(environment), "")


def used_proxies(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the variables with a proxy that a client asks."""
    return [name for name in _both(*PROXIES) if environment.get(name)]


def unusable_proxies(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the variables with a proxy that Prefect's client can't use: SOCKS needs a package."""
    return [name for name in used_proxies(environment) if not _is_usable(environment[name])]


def _both(*names: str) -> Iterator[str]:
    for name in names:
        yield from (name, name.upper())


def _is_usable(proxy: str) -> bool:
    import httpx

    try:
        scheme = httpx.Proxy(proxy if "://" in proxy else f"http://{proxy}").url.scheme
    except (ValueError, httpx.InvalidURL):
        return False
    return not scheme.startswith("socks") or find_spec("socksio") is not None


def _is_exception(host: str) -> bool:
    """Whether the client can read it: not ``[::1]`` or networks of IPv6, for instance."""
    import httpx

    try:
        ip_address(host)
        return True
    except ValueError:
        pass
    try:
        httpx.URL(f"all://*{host}")
    except httpx.InvalidURL:
        return False
    return True
