"""What Prefect's loggers write about errors that a line explains."""

import logging

from gan_core.errors import UserError


def drop_traceback(record: logging.LogRecord) -> bool:
    """Take the traceback out of a record, for errors that say in one line what to do; the debug log keeps it.

    Returns whether the record is to be written: the line of a ``UserError`` isn't, because that of the state follows
    and has its message.
    """
    error = record.exc_info[1] if record.exc_info else None
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(logging.DEBUG):
        level = {"levelno": logging.DEBUG, "levelname": "DEBUG"}
        logger.handle(logging.makeLogRecord(record.__dict__ | level))
    record.exc_info = None
    return not isinstance(error, UserError)


def without_user_errors(record: logging.LogRecord) -> bool:
    """Filter a logger: drop the tracebacks of mistakes in the input; others stay."""
    return drop_traceback(record) if isinstance(raised(record), UserError) else True


def raised(record: logging.LogRecord) -> BaseException | None:
    """Return the error that a record has a traceback of; none in the debug log, which keeps them all."""
    return record.exc_info[1] if record.exc_info and record.levelno > logging.DEBUG else None
