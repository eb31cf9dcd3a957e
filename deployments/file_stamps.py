"""Whether a file has changed since it was last looked at."""

from __future__ import annotations

from pathlib import Path

FileStamp = tuple[int, int, int]


def stamp_of(path: Path) -> FileStamp:
    """Changes when the file does, also when a mounted secret is exchanged under the same name."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)
