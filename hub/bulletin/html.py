"""The bulletin as a page: one file that needs nothing else, on a screen or on paper."""

from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from hub.bulletin.document import Bulletin, Heading, Kind, Paragraph, Table

_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("hub.bulletin"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.tests.update(
    heading=lambda block: isinstance(block, Heading),
    paragraph=lambda block: isinstance(block, Paragraph),
    table=lambda block: isinstance(block, Table),
    wording=lambda cell: cell.kind is Kind.WORDS,
)


def as_html(bulletin: Bulletin) -> bytes:
    """The page, in UTF-8."""
    return _ENVIRONMENT.get_template("bulletin.html").render(bulletin=bulletin).encode()
