"""``encoder: champion``: the encoder that won the last comparison, looked up in MLflow's registry."""

from typing import Any

from gan_core.checkpoints.files import file_sha256
from gan_core.errors import CheckpointError
from gan_core.params import load_params
from tasks.tracking.address import tracking_uri
from tasks.tracking.registry import CHAMPION, champion


def resolve_encoder(params_file: str, overrides: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the overrides with the champion's architecture and file, if the parameters ask for it.

    Raises ``ParamsError`` if there is no champion, ``CheckpointError`` if its file has changed since, and
    ``TrackingError``.
    """
    params = load_params(params_file, overrides)
    if params.encode.encoder != CHAMPION:
        return overrides
    found = champion(tracking_uri(params.track))
    if file_sha256(found.path) != found.sha256:
        raise CheckpointError(
            f"{found.path} is not the file that was registered as {found.name} {found.version}: `dvc checkout`, or run "
            "`edit-dataset compare-encoders` again"
        )
    return (overrides or {}) | {"encode.encoder": found.encoder, "models.encoder": found.path}
