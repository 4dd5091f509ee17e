"""Published checkpoints: the layouts of their files, and where to download them."""
