"""Where runs are logged, and the password of an address that was written down without it."""

import os
from urllib.parse import urlsplit

from gan_core.errors import UserError
from gan_core.params import TrackParams, load_params
from gan_core.secrets import HIDDEN, hide
from tasks.sessions import listens
from tasks.tracking.client import TrackingError

DEFAULT_URI = "sqlite:///mlflow.db"
STORE = "MLFLOW_BACKEND_STORE_URI"
ADDRESSES = ("MLFLOW_TRACKING_URI", STORE)
OWN_SERVER = "EDIT_DATASET_MLFLOW"
"""The process and the address of this project's MLflow server while it runs; ``flows.servers`` sets it."""
LOGINS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def address_of(params: TrackParams) -> str:
    """Return where is logged: the parameter, else ``MLFLOW_TRACKING_URI``, else the store of the project's server."""
    return params.uri or next((os.environ[name] for name in ADDRESSES if os.environ.get(name)), DEFAULT_URI)


def tracking_uri(params: TrackParams) -> str:
    """Return the address to use for what ``address_of`` says, as ``usable`` does."""
    return usable(address_of(params))


def usable(address: str) -> str:
    """Return the project's server for the project's store if it runs, else the address with the password it had.

    A password that was hidden is found in the environment or in this folder's parameter file; MLflow itself reads
    ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD``. Raises ``TrackingError`` if it is nowhere.
    """
    store = os.environ.get(STORE, DEFAULT_URI)
    pid, _, own = os.environ.get(OWN_SERVER, "").partition(" ")
    if own and address in (DEFAULT_URI, store, hide(store)) and listens(int(pid), urlsplit(own).port or 80):
        return own  # it may have ended since that was written down, and somebody else's be there
    if HIDDEN not in address:
        return address
    known = [os.environ.get(name, "") for name in ADDRESSES] + [_in_params_file()]
    for whole in known:
        if HIDDEN not in whole and hide(whole) == address:
            return whole
    if any(os.environ.get(name) for name in LOGINS):
        parts = urlsplit(address)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    raise TrackingError(
        f"the password of {address} is not written down: set MLFLOW_TRACKING_URI to the whole address, or "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    )


def _in_params_file() -> str:
    try:
        return load_params().track.uri
    except UserError:
        return ""
