"""MLflow: runs, the registry of encoders, comparisons and nightly runs. The only package that imports MLflow."""
