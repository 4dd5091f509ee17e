"""Measurements that print their numbers, and end with one line ``RESULT {json}``: ``python -m benchmarks.NAME``."""
