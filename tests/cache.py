"""Imported before JAX: the folder of compiled programs that the processes of one run share.

The process that pytest starts in makes it, its workers and the commands that tests run inherit it.
"""

from __future__ import annotations

import os
import tempfile

# What this process made, and takes away again; None where it was named by whoever runs the tests.
MADE = None if "JAX_COMPILATION_CACHE_DIR" in os.environ else tempfile.mkdtemp(prefix="mixjax-")
if MADE is not None:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = MADE
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
