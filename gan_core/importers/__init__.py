"""Import image folders, tar archives and Parquet files as datasets of shards; each importer is one file."""

from gan_core.importers.dataset import ImportReport, import_dataset

__all__ = ["ImportReport", "import_dataset"]
