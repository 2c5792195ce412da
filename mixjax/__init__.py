"""mixjax: choose the data mixture of a large training run from small runs.

The public names stand in `__init__.pyi`, here and in each room, and load on first use, so that
`import mixjax` and `mixjax --help` are immediate.
"""

from mixjax._lazy import attach

__version__ = "0.1.0"
__getattr__, __dir__ = attach(__name__)
