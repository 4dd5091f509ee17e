"""Prefect flows and the command line: they read like the sentences they implement."""
