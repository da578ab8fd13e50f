"""Files that a reader finds whole: the new content or the old, never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a write fails with where nothing more fits: a full disk, or a limit on what a user or a file may take."""


def write_whole(path: Path, *content: bytes | memoryview) -> None:
    """Write a file, and its folders where there are none: temporary file, flush, fsync, rename.

    Whatever interrupts it, the file that was there stays as it was and nothing is left beside it.

    Args:
        path: The file.
        content: All of it, in one part or in several.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            for part in content:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp gives 0600, which would hide the file in a shared folder
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
