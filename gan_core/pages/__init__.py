"""The parts of pages about runs, and how they are read from a run's folder."""
