"""A Fit and its runs -> how far to believe it: refits, held-out predictions, intervals, choice of a
law."""

from mixjax._lazy import attach

__getattr__, __dir__ = attach(__name__)
