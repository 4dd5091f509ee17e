"""The toy world: the renderer of portraits, the datasets made with it, and the trainings of the embedded networks."""
