"""The recipes of runs: edit a dataset, compose images, translate images."""
