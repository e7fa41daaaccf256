"""Cuts a part out of requirements.lock: what some packages need, with every version and hash as it stands there.

The image has no use for linters and test servers. `uv` notes under each package why it is there ("via ..."); the cut
follows those notes::

    python deploy/cut_lock.py requirements.lock alembic cryptography ... > runtime.lock
    python deploy/cut_lock.py requirements.lock --of pyproject.toml --extra tracing > runtime.lock

With ``--of`` the packages are the dependencies of that project, with ``--extra`` those of its extra besides. Standard
library only: it runs before anything is installed.
"""  # noqa: INP001 - a program, not part of a package

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)")


class NotLocked(Exception):
    """A package is asked for that the lock does not hold."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"{name} is not in the lock: run `make lock` first")


def normal(name: str) -> str:
    """A package's name as the lock writes it, without extras and versions."""
    found = _NAME.match(name)
    return re.sub(r"[-_.]+", "-", found.group(1)).lower() if found else ""


def entries(lock: str) -> dict[str, str]:
    """Each package of a lock with its whole entry: version, hashes, and the notes why it is there."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", "\n" + lock)
    return {normal(block): block.rstrip() + "\n" for block in blocks[1:]}


def asked_by(entry: str) -> set[str]:
    """The packages that an entry is there for."""
    _, _, notes = entry.partition("# via")
    return {normal(line.strip(" #")) for line in notes.splitlines()} - {""}


def cut(lock: str, roots: Iterable[str]) -> str:
    """The part of the lock that `roots` need. Raises `NotLocked`."""
    known = entries(lock)
    wanted = {normal(root) for root in roots}
    for name in sorted(wanted):
        if name not in known:
            raise NotLocked(name)
    grown = True
    while grown:
        more = {name for name, entry in known.items() if name not in wanted and asked_by(entry) & wanted}
        grown = bool(more)
        wanted |= more
    return "".join(entry for name, entry in known.items() if name in wanted)


def main() -> int:
    """Print the cut lock; status 2 with a sentence when a package is not locked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("lock", type=Path)
    parser.add_argument("packages", nargs="*")
    parser.add_argument("--of", type=Path, metavar="PYPROJECT", help="cut for this project's dependencies")
    parser.add_argument("--extra", action="append", default=[], help="and for those of its extra")
    given = parser.parse_args()
    roots = list(given.packages)
    if given.of:
        project = tomllib.loads(given.of.read_text("utf-8"))["project"]
        roots += project["dependencies"]
        for extra in given.extra:
            roots += project["optional-dependencies"][extra]
    try:
        sys.stdout.write(cut(given.lock.read_text("utf-8"), roots))
    except NotLocked as missing:
        sys.stderr.write(f"{missing}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
