"""Rows of runs to look at: filtered, sorted, side by side, marked."""
