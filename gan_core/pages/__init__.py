"""What pages about runs hold: their parts, and how these are read from a run's folder."""
