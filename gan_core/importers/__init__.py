"""From the forms that image collections come in to a dataset of shards; one file an importer."""

from gan_core.importers.dataset import ImportReport, import_dataset

__all__ = ["ImportReport", "import_dataset"]
