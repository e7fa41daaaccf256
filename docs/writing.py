"""What the programs have in common that write documents from code."""  # noqa: INP001 - a module of programs, not of a package

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    columns = list(head)
    lines = [columns, ["---"] * len(columns), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def print_or_write(description: str | None, documents: Callable[[], Mapping[Path, str]]) -> None:
    """The program: prints the documents, or with `--write` puts them in their places."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the documents instead of printing them")
    write = parser.parse_args().write
    for path, text in documents().items():
        if write:
            path.write_text(text, "utf-8")
        else:
            sys.stdout.write(text)
