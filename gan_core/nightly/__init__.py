"""Night after night: how far the numbers of a run move by chance, what has moved further, and a page about it."""
