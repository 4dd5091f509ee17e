"""Prefect tasks, each over one shard, and the only files that talk to MLflow and DVC."""
