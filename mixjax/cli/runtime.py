"""How JAX runs under a command: where compiled programs are kept. Nothing here touches a user's own
program."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

OFF = ("off", "0", "no", "false", "none")


def cache_folder() -> Path | None:
    """The folder of compiled programs: MIXJAX_CACHE, or mixjax/jax in the user's cache folder; None
    where switched off."""
    named = os.environ.get("MIXJAX_CACHE", "")
    if named.lower() in OFF:
        return None
    if named:
        return Path(named).expanduser()
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        return None
    return Path(home) / "mixjax" / "jax"


def use_cache(wanted: bool = True) -> Path | None:
    """Let JAX keep compiled programs between commands; call before the first compilation.

    Returns:
        The folder in use; None where switched off, or where it cannot be written: then programs are
        compiled anew.
    """
    folder = cache_folder() if wanted else None
    if folder is None or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return None
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
    # By default only programs that took a second to compile are kept, which would be none of ours.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
