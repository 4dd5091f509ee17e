"""An error that a line explains has no traceback in the log, except in the debug log."""

import logging
from collections.abc import Iterator

import pytest

from gan_core.errors import DataError
from tasks.logs import drop_traceback, without_user_errors


@pytest.fixture
def logger(caplog: pytest.LogCaptureFixture) -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.without_traceback")
    caplog.set_level(logging.INFO, logger.name)
    yield logger
    logger.filters.clear()


def fail(logger: logging.Logger, error: Exception) -> None:
    try:
        raise error
    except Exception as raised:
        logger.exception("Encountered exception during execution: %r", raised)


def test_a_mistake_in_the_input_is_left_to_the_line_of_its_state(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    logger.addFilter(without_user_errors)
    fail(logger, DataError("no shard at x: fetch it"))
    assert caplog.records == []
    fail(logger, ZeroDivisionError("a bug"))
    assert "Traceback" in caplog.text


def test_the_debug_log_has_the_traceback(logger: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger.name)
    logger.addFilter(without_user_errors)
    fail(logger, DataError("no shard"))
    assert [(record.levelname, bool(record.exc_info)) for record in caplog.records] == [("DEBUG", True)]


def test_a_lost_server_keeps_its_line(logger: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    logger.addFilter(drop_traceback)
    fail(logger, ConnectionError("no route"))
    assert "no route" in caplog.text and "Traceback" not in caplog.text
