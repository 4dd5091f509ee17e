"""What a run can be: an edited dataset, compositions, translations."""
