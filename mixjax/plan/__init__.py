"""A Fit and its runs -> what to train next."""

from mixjax._lazy import attach

__getattr__, __dir__ = attach(__name__)
