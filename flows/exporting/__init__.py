"""The rows of a finished run as files for other programs: a folder of pictures, tar archives, or tables."""

from flows.exporting.folder import export
from flows.exporting.formats import FORMATS

__all__ = ["FORMATS", "export"]
