"""Inverting, editing and measuring image datasets: the library, free of orchestration and tracking."""
