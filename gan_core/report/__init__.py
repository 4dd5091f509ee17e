"""The HTML report of a run."""

from gan_core.report.report import write_report

__all__ = ["write_report"]
