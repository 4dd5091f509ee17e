"""Prefect's server as a client sees it: which version answers at an address, and whether an error is that none does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gan_core.errors import UserError
from gan_core.secrets import hide

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

MAJOR = "3"
"""The version of Prefect whose server this project's client can talk to."""
CLOUD = "Cloud"
TIMEOUT_S = 5.0


def is_lost(error: BaseException | None) -> bool:
    """Tell whether an error, or what caused it, is that Prefect's server doesn't answer or has failed."""
    import httpx

    while error is not None:
        if isinstance(error, httpx.TransportError):
            return True
        if isinstance(error, httpx.HTTPStatusError) and error.response.is_server_error:
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def client_of(address: str, timeout_s: float | None = None) -> Iterator["SyncPrefectClient"]:
    """Open Prefect's client of the API at an address; with a time limit, it tries each request once."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    once = {PREFECT_CLIENT_MAX_RETRIES: 0} if timeout_s else {}
    limit = {"timeout": timeout_s} if timeout_s else None
    with temporary_settings({PREFECT_API_URL: address} | once), get_client(limit, sync_client=True) as client:
        yield client


def ask_version(address: str) -> str:
    """Return the version of the Prefect server whose API is at an address, or an empty string if nothing answers.

    Prefect Cloud has none and gives ``CLOUD``. Raises ``UserError`` for what answers and is no server that commands
    can use.
    """
    import httpx
    from prefect.client.base import ServerType

    place = f"PREFECT_API_URL={hide(address)}"
    try:
        with client_of(address, TIMEOUT_S) as client:
            version = CLOUD if client.server_type == ServerType.CLOUD else client.api_version()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (401, 403):
            raise UserError(f"{place} wants a login: set PREFECT_API_AUTH_STRING to its user:password") from None
        if is_lost(error) and not isinstance(error, httpx.UnsupportedProtocol):
            return ""
        version = None  # a page, or nothing of that name
    if not isinstance(version, str):
        raise UserError(f"{place} is no API of a Prefect server: it has to begin with http and to end in /api")
    if version != CLOUD and version.partition(".")[0] != MAJOR:
        raise UserError(f"{place} is Prefect {version}, and {MAJOR}.x is needed: name a server of that version")
    return version
