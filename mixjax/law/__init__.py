"""What a law is, the terms that it is made of, the registry of laws, and their losses."""

from mixjax._lazy import attach

__getattr__, __dir__ = attach(__name__)
