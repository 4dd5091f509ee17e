"""Trainings on toy portraits and on digits."""
