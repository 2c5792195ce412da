"""Runs and a law -> a Fit: layout, objective, search, record, scores."""

from mixjax._lazy import attach

__getattr__, __dir__ = attach(__name__)
