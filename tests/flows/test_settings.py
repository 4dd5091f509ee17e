"""The option ``--set``: values as YAML, and no password in what Prefect shows."""

import os

import pytest

from flows.settings import parse_settings
from gan_core.errors import ParamsError
from gan_core.params import load_params
from tasks.tracking.address import tracking_uri


def test_a_password_is_used_but_not_among_the_parameters(project: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    whole = "http://me:s3cret@host/?token=t0ken"
    hidden = "http://***@host/?token=***"
    for setting, shown in (
        (f"track.uri={whole}", {"track.uri": hidden}),
        (f"track={{uri: '{whole}', grid_rows: 2}}", {"track": {"uri": hidden, "grid_rows": 2}}),
    ):
        values = parse_settings([setting, "tune.steps=3"])
        assert values == shown | {"tune.steps": 3}
        assert tracking_uri(load_params(overrides=values).track) == whole == os.environ["MLFLOW_TRACKING_URI"]
        os.environ["MLFLOW_TRACKING_URI"] = "http://elsewhere"


def test_what_is_no_setting_is_said_without_the_password() -> None:
    with pytest.raises(ParamsError, match="not valid YAML") as refused:
        parse_settings(["track.uri=[http://me:s3cret@host"])
    assert "s3cret" not in str(refused.value)
