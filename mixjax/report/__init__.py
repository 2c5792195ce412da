"""What was found, as figures, documents and files of training stacks."""

from mixjax._lazy import attach

__getattr__, __dir__ = attach(__name__)
