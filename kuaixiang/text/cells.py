"""Texts as cells of tables that spreadsheets open."""

from typing import Final

ACTIVE_BEGINNINGS: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula when it opens a CSV."""


def inert(text: str) -> str:
    """A text as a cell of a CSV that no spreadsheet takes for a formula: with an apostrophe before what begins one."""
    return f"'{text}" if text.startswith(ACTIVE_BEGINNINGS) else text
