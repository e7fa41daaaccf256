"""Files that others read while they are written: replaced whole, and known by what tells that they have changed."""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

OWN: Final = 0o600
"""For the owner alone."""

Stamp = tuple[int, int, int, int]


@contextmanager
def replacing(path: Path, mode: int = OWN) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path` when the block has ended well: whole, on the disk, with this mode.

    Until then it is its owner's alone, so that a key is never open for an instant; whoever reads `path` meanwhile finds
    what was there. When the block fails nothing is left. Raises `OSError`.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Has the disk keep which files are in a folder. Raises `OSError`."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Nobody else who asks for this changes a file of the same folder meanwhile, in whatever process. Raises `OSError`.

    For what reads a file and replaces it: otherwise the later of two undoes what the earlier has written.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def stamp_of(path: Path) -> Stamp | None:
    """What is another when a file has been replaced, changed, or opened to others; None when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size, stat.S_IMODE(found.st_mode)
