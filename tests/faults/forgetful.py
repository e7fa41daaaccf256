"""A file system that forgets at a power cut what was not synced: ``python -m tests.faults.forgetful MOUNTPOINT BACKING``.

It keeps two trees: what programs see (``seen``), and what would be there after a power cut (``kept``). Whatever is written
is only seen until its file is synced (fsync, fdatasync, O_SYNC). Names are kept at once, as by a journalling file system,
but a file that was made and never synced may be gone, and one that was put in another's place without being synced is
empty. A power cut (`cut`) makes ``kept`` what is seen; pages that were not synced may have reached the disk all the same,
each by chance: a disk writes in what order it likes.

A power cut is told by an extended attribute of the root, so that it needs no other way in.
"""

import contextlib
import errno
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

PAGE_BYTES: Final = 4096
"""What a disk writes whole, or so one hopes."""
ATTRIBUTE: Final = "user.cut"
MOUNT_SECONDS_MAX: Final = 60.0
UNMOUNT_SECONDS_MAX: Final = 5.0
VANISHED: Final = 0.5
"""Chance that a file that was made and never synced is gone."""


@dataclass(slots=True)
class File:
    """What is not kept yet of a file."""

    dirty: set[int] = field(default_factory=set)
    """Numbers of pages."""
    resized: bool = False
    fresh: bool = False
    """Made, and never synced."""
    sync_always: set[int] = field(default_factory=set)
    """Handles that were opened to write through."""


class Disk:
    """Both trees. Paths are as the file system has them, with a leading slash."""

    def __init__(self, backing: Path) -> None:
        self.seen_root, self.kept_root = str(backing / "seen"), str(backing / "kept")
        for root in (self.seen_root, self.kept_root):
            os.makedirs(root, exist_ok=True)
        self._files: dict[str, File] = {}
        self._of_handle: dict[int, File] = {}

    def seen(self, path: str) -> str:
        """Where it is, as programs see it."""
        return self.seen_root + path

    def kept(self, path: str) -> str:
        """Where it is, as a power cut leaves it."""
        return self.kept_root + path

    def file(self, path: str) -> File:
        """What is not kept yet of it."""
        return self._files.setdefault(path, File())

    # ------------------------------------------------------------ names

    def make(self, path: str, mode: int, flags: int) -> int:
        """Make a file; its handle."""
        handle = os.open(self.seen(path), flags | os.O_CREAT, mode)
        if not os.path.exists(self.kept(path)):
            os.close(os.open(self.kept(path), os.O_WRONLY | os.O_CREAT, mode))
            self.file(path).fresh = True
        self._opened(path, handle, flags)
        return handle

    def open(self, path: str, flags: int) -> int:
        """Open a file; its handle."""
        handle = os.open(self.seen(path), flags)
        if flags & os.O_TRUNC:
            self._shrunk(path)
        self._opened(path, handle, flags)
        return handle

    def _opened(self, path: str, handle: int, flags: int) -> None:
        file = self._of_handle[handle] = self.file(path)
        if flags & (os.O_SYNC | os.O_DSYNC):
            file.sync_always.add(handle)

    def close(self, handle: int) -> None:
        """Give the handle back."""
        file = self._of_handle.pop(handle)
        file.sync_always.discard(handle)
        os.close(handle)

    def rename(self, old: str, new: str) -> None:
        """Names are kept at once, what was written is not."""
        os.rename(self.seen(old), self.seen(new))
        os.rename(self.kept(old), self.kept(new))
        if old in self._files:
            self._files[new] = self._files.pop(old)
            self._files[new].fresh = False
        else:
            self._files.pop(new, None)
        below = old + "/"
        for path in [path for path in self._files if path.startswith(below)]:
            self._files[new + "/" + path[len(below) :]] = self._files.pop(path)

    def unlink(self, path: str) -> None:
        """It is gone for good."""
        os.unlink(self.seen(path))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.kept(path))
        self._files.pop(path, None)

    # ------------------------------------------------------------ content

    def write(self, path: str, data: bytes, offset: int, handle: int) -> int:
        """It is seen; kept only where the handle writes through."""
        written = os.pwrite(handle, data, offset)
        file = self._of_handle[handle]
        file.dirty.update(range(offset // PAGE_BYTES, (offset + written - 1) // PAGE_BYTES + 1))
        if handle in file.sync_always:
            self.sync(path, handle)
        return written

    def truncate(self, path: str, length: int, handle: int | None) -> None:
        """The new length is seen."""
        os.truncate(self.seen(path) if handle is None else handle, length)
        self._shrunk(path)

    def _shrunk(self, path: str) -> None:
        self.file(path).resized = True

    def sync(self, path: str, handle: int) -> None:
        """All that was written to the file is kept from now on."""
        file = self._of_handle[handle]
        if self._files.get(path) is not file:
            return  # unlinked meanwhile, or its name is another's
        self._keep(path, file, sorted(file.dirty))
        file.dirty.clear()
        file.resized = file.fresh = False

    def _keep(self, path: str, file: File, pages: list[int], *, whole: bool = True) -> None:
        seen = os.open(self.seen(path), os.O_RDONLY)
        kept = os.open(self.kept(path), os.O_WRONLY)
        try:
            for page in pages:
                os.pwrite(kept, os.pread(seen, PAGE_BYTES, page * PAGE_BYTES), page * PAGE_BYTES)
            if whole and (file.resized or file.dirty):
                os.truncate(kept, os.fstat(seen).st_size)
        finally:
            os.close(seen)
            os.close(kept)

    # ------------------------------------------------------------ power

    def cut(self, prefix: str, seed: str, reached: float) -> int:
        """The power of those files is cut whose paths begin so; how many of them have lost something.

        `reached`: the share of unsynced pages that have reached the disk all the same.
        """
        chance = random.Random(seed)
        lost = 0
        for path, file in sorted(self._files.items()):
            if not path.startswith(prefix) or not (file.dirty or file.resized or file.fresh):
                continue
            lost += 1
            if file.fresh and chance.random() < VANISHED:
                os.unlink(self.seen(path))
                os.unlink(self.kept(path))
                del self._files[path]
                continue
            pages = [page for page in sorted(file.dirty) if chance.random() < reached]
            self._keep(path, file, pages, whole=False)
            self._restore(path)
            file.dirty.clear()
            file.resized = file.fresh = False
        return lost

    def _restore(self, path: str) -> None:
        with open(self.kept(path), "rb") as kept, open(self.seen(path), "r+b") as seen:
            seen.truncate(0)
            while piece := kept.read(1 << 20):
                seen.write(piece)


def serve(mountpoint: Path, backing: Path) -> None:
    """Be the file system until it is unmounted."""
    import mfusepy  # noqa: PLC0415 (it needs libfuse, which whoever imports this module may not have)

    disk = Disk(backing)

    class Forgetful(mfusepy.Operations):  # type: ignore[misc] # its decorators have no types
        use_ns = True

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            told = os.lstat(disk.seen(path)) if fh is None else os.fstat(fh)
            names = ("mode", "nlink", "uid", "gid", "size", "blocks")
            times = {f"st_{name}time": getattr(told, f"st_{name}time_ns") for name in "amc"}
            return {f"st_{name}": getattr(told, f"st_{name}") for name in names} | times

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", *os.listdir(disk.seen(path))]

        def create(self, path: str, mode: int, fi: Any = None) -> int:
            return disk.make(path, mode, os.O_RDWR)

        def open(self, path: str, flags: int) -> int:
            return disk.open(path, flags & ~os.O_APPEND)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return os.pread(fh, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            return disk.write(path, data, offset, fh)

        def truncate(self, path: str, length: int, fh: int | None = None) -> int:
            disk.truncate(path, length, fh)
            return 0

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            disk.sync(path, fh)
            return 0

        def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
            return 0

        def flush(self, path: str, fh: int) -> int:
            return 0

        def release(self, path: str, fh: int) -> int:
            disk.close(fh)
            return 0

        def mkdir(self, path: str, mode: int) -> int:
            os.mkdir(disk.seen(path), mode)
            os.mkdir(disk.kept(path), mode)
            return 0

        def rmdir(self, path: str) -> int:
            os.rmdir(disk.seen(path))
            os.rmdir(disk.kept(path))
            return 0

        def unlink(self, path: str) -> int:
            disk.unlink(path)
            return 0

        def rename(self, old: str, new: str) -> int:
            disk.rename(old, new)
            return 0

        def chmod(self, path: str, mode: int) -> int:
            os.chmod(disk.seen(path), mode)
            return 0

        def chown(self, path: str, uid: int, gid: int) -> int:
            os.chown(disk.seen(path), uid, gid)
            return 0

        def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
            if times is None:
                os.utime(disk.seen(path))
            else:
                os.utime(disk.seen(path), ns=times)
            return 0

        def statfs(self, path: str) -> dict[str, int]:
            told = os.statvfs(disk.seen(path))
            return {key: getattr(told, key) for key in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail")}

        def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:
            if name != ATTRIBUTE:
                raise mfusepy.FuseOSError(errno.ENOTSUP)
            disk.cut(**json.loads(value))
            return 0

    # Nothing of it is kept by the kernel: after a power cut everybody must see what is left.
    fresh = {"attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0}
    mfusepy.FUSE(Forgetful(), str(mountpoint), foreground=True, nothreads=True, hard_remove=True, **fresh)


class Mount:
    """The file system mounted at a place, by a process of its own."""

    def __init__(self, mountpoint: Path, backing: Path, log: Path) -> None:
        self.mountpoint = mountpoint
        mountpoint.mkdir(parents=True, exist_ok=True)
        backing.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.forgetful", str(mountpoint), str(backing)],
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + MOUNT_SECONDS_MAX
        while not os.path.ismount(mountpoint):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no file system at {mountpoint}: {log.read_text('utf-8', errors='replace')}")
            time.sleep(0.02)

    def cut(self, prefix: str, seed: str, reached: float) -> None:
        """Cut the power of the files whose paths begin so; nobody has one of them open."""
        told = {"prefix": prefix, "seed": seed, "reached": reached}
        os.setxattr(self.mountpoint, ATTRIBUTE, json.dumps(told).encode())

    def unmount(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "--lazy", str(self.mountpoint)], check=False)
        try:
            # It goes on for as long as somebody has a file of it open.
            self._process.wait(UNMOUNT_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def mounted(mountpoint: Path, backing: Path, log: Path) -> Iterator[Mount]:
    """The file system, for the time of the block."""
    mount = Mount(mountpoint, backing, log)
    try:
        yield mount
    finally:
        mount.unmount()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
