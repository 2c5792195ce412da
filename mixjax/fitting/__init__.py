"""Runs and a law -> a Fit: layout, objective, search, record, scores."""
