"""What was trained, before any law: tables of runs, selections, splits, designs."""

from mixjax._lazy import attach

__getattr__, __dir__ = attach(__name__)
