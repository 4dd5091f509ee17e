"""An encoder, a metric, a kind of edit, a stage and a recipe for edit-dataset: one file each, found by entry points."""
