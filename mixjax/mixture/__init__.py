"""A Fit and a question about mixtures -> an answer: one record, one solver, one aid a file."""

from mixjax._lazy import attach

__getattr__, __dir__ = attach(__name__)
