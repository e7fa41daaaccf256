"""The bulletin on the board: shown before it is sent, and taken as a file."""

from starlette.responses import Response

from hub.board.sheets import NoSuchFormat
from hub.board.view import View, sent
from hub.bulletin.document import Format, Heading, Kind, Paragraph, Table
from hub.bulletin.files import File
from kuaixiang.domain.errors import Condition, Refused


class NoWholePeriod(Refused):
    """A bulletin is asked for of days that are no whole period."""

    condition = Condition.INVALID
    field = "period"
    remedy = "Choose a whole day, week, month, quarter or year."
    remedy_chinese = "请选择完整的日、周、月、季度或年。"

    def __init__(self) -> None:
        super().__init__("There is a bulletin of whole periods alone.", "通报只能按完整的统计期间编制。")


async def bulletin_page(view: View) -> Response:
    """The very bulletin of the files, as a page."""
    bulletin = await view.asking.bulletin(_period(view))
    return view.page(
        "bulletin.html",
        bulletin=bulletin,
        formats=tuple(Format),
        is_heading=lambda block: isinstance(block, Heading),
        is_paragraph=lambda block: isinstance(block, Paragraph),
        is_table=lambda block: isinstance(block, Table),
        is_wording=lambda cell: cell.kind is Kind.WORDS,
    )


async def bulletin_file(view: View) -> Response:
    """The bulletin as a file. Raises `NoSuchFormat`."""
    wanted = view.visit.request.path_params["format"]
    known = {form.name.lower(): form for form in Format}
    if wanted not in known:
        raise NoSuchFormat(wanted)
    answer = await view.asking.bulletin_file(_period(view), known[wanted])
    return sent(File(answer.file_name, answer.media_type, answer.content))


def _period(view: View) -> str:
    if view.days.period is None:
        raise NoWholePeriod
    return str(view.days.period)
