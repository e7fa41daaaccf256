"""The bulletin as a document in the layout of official documents (党政机关公文格式, GB/T 9704).

A4, margins 37 mm above, 35 below, 28 left, 26 right; the title in 方正小标宋 二号, the body in 仿宋 三号 on lines of 28
points with the first line two characters in, 黑体 and 楷体 for the headings of the first and second level; the page
number between dashes, on the outer side. The wide tables stand on landscape pages behind the text, the same margins
turned. A machine without these fonts takes the ones that the font table names instead.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any, Final, cast

from docx import Document
from docx.document import Document as DocumentObject
from docx.enum.section import WD_ORIENT, WD_SECTION
from docx.enum.style import WD_STYLE_TYPE
from docx.enum.table import WD_CELL_VERTICAL_ALIGNMENT, WD_ROW_HEIGHT_RULE, WD_TABLE_ALIGNMENT
from docx.enum.text import WD_ALIGN_PARAGRAPH, WD_LINE_SPACING
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.oxml import serialize_part_xml
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import qn
from docx.section import Section as PageSection
from docx.shared import Length, Mm, Pt, RGBColor, Twips
from docx.styles.style import ParagraphStyle
from docx.table import Table as DocxTable
from docx.text.paragraph import Paragraph as DocxParagraph

from hub.bulletin.document import Bulletin, Heading, Kind, Paragraph, Table

PAGE: Final = (Mm(210), Mm(297))
MARGINS: Final = {"top": Mm(37), "bottom": Mm(35), "left": Mm(28), "right": Mm(26)}
LANDSCAPE_MARGINS: Final = {"top": Mm(28), "bottom": Mm(26), "left": Mm(37), "right": Mm(35)}
"""The portrait page's, turned with it."""
FOOTER_DISTANCE: Final = Mm(25)
"""From the edge of the paper to the page number, which so stands 7 mm below the text."""
LANDSCAPE_FOOTER_DISTANCE: Final = Mm(16)
LINE: Final = Pt(28)
TABLE_LINE: Final = Pt(15)
ROW_HEIGHT: Final = Pt(19)
CELL_MARGIN: Final = Mm(0.6)
"""Left and right within a cell: thirteen columns must fit."""

TITLE_SIZE: Final = Pt(22)  # 二号
ANNEX_TITLE_SIZE: Final = Pt(18)  # 小二
BODY_SIZE: Final = Pt(16)  # 三号
PAGE_NUMBER_SIZE: Final = Pt(14)  # 四号
CAPTION_SIZE: Final = Pt(12)  # 小四
TABLE_SIZE: Final = Pt(10.5)  # 五号
WIDE_TABLE_SIZE: Final = Pt(10)
INDENT_CHARACTERS: Final = 2

SONG: Final = "方正小标宋简体"
FANG: Final = "仿宋_GB2312"
KAI: Final = "楷体_GB2312"
HEI: Final = "黑体"
PLAIN_SONG: Final = "宋体"
LATIN: Final = "Times New Roman"
ALTERNATIVES: Final = {
    SONG: "FZXiaoBiaoSong-B05S,华文中宋,STZhongsong,宋体,SimSun,Noto Serif CJK SC",
    FANG: "仿宋,FangSong,FangSong_GB2312,华文仿宋,STFangsong,Noto Serif CJK SC",
    KAI: "楷体,KaiTi,KaiTi_GB2312,华文楷体,STKaiti,Noto Serif CJK SC",
    HEI: "SimHei,Microsoft YaHei,Noto Sans CJK SC",
    PLAIN_SONG: "SimSun,NSimSun,Noto Serif CJK SC",
}
"""What to take on a machine without a font."""
_RED: Final = RGBColor(0xC8, 0x10, 0x2E)


_NO_SPACE: Final = Pt(0)
_CENTRE: Final = WD_ALIGN_PARAGRAPH.CENTER
_LEFT: Final = WD_ALIGN_PARAGRAPH.LEFT
_RIGHT: Final = WD_ALIGN_PARAGRAPH.RIGHT
_BOTH: Final = WD_ALIGN_PARAGRAPH.JUSTIFY


@dataclass(frozen=True, slots=True)
class _Style:
    """A paragraph style; sizes and distances as python-docx has them, indents in characters."""

    name: str
    font: str
    size: Length
    alignment: WD_ALIGN_PARAGRAPH = _BOTH
    first_line: int = 0
    right: int = 0
    line: Length = LINE
    before: Length = _NO_SPACE
    after: Length = _NO_SPACE
    colour: RGBColor | None = None
    level: int | None = None
    """Of the outline; headings also stay with what follows them."""


_ISSUER: Final = _Style("发文机关", SONG, Pt(26), _CENTRE, line=Pt(40), after=Pt(28), colour=_RED)
_TITLE: Final = _Style("通报标题", SONG, TITLE_SIZE, _CENTRE, line=Pt(34), after=Pt(28), level=0)
_ADDRESSEES: Final = _Style("主送机关", FANG, BODY_SIZE)
_BODY: Final = _Style("公文正文", FANG, BODY_SIZE, first_line=INDENT_CHARACTERS)
_SECTION: Final = _Style("一级标题", HEI, BODY_SIZE, first_line=INDENT_CHARACTERS, level=1)
_SUBSECTION: Final = _Style("二级标题", KAI, BODY_SIZE, first_line=INDENT_CHARACTERS, level=2)
_ATTACHMENT: Final = _Style("附件说明", FANG, BODY_SIZE, _LEFT, first_line=INDENT_CHARACTERS)
_SIGNATURE: Final = _Style("落款", FANG, BODY_SIZE, _RIGHT, right=INDENT_CHARACTERS)
_ANNEX_NUMBER: Final = _Style("附件序号", HEI, BODY_SIZE, _LEFT)
_ANNEX_TITLE: Final = _Style("附件标题", SONG, ANNEX_TITLE_SIZE, _CENTRE, before=Pt(6), after=Pt(10), level=1)
_CAPTION: Final = _Style("表题", HEI, CAPTION_SIZE, _CENTRE, line=Pt(22), before=Pt(8), level=3)
_CELL: Final = _Style("表格文字", FANG, TABLE_SIZE, _CENTRE, line=TABLE_LINE)
_NOTE: Final = _Style("表注", FANG, TABLE_SIZE, _RIGHT, line=Pt(18))
_GAP: Final = _Style("表后", FANG, TABLE_SIZE, line=Pt(10))
_PAGE_NUMBER_RIGHT: Final = _Style("页码右", PLAIN_SONG, PAGE_NUMBER_SIZE, _RIGHT, right=1)
_PAGE_NUMBER_LEFT: Final = _Style("页码左", PLAIN_SONG, PAGE_NUMBER_SIZE, _LEFT, first_line=1)
_BREAK: Final = _Style("分节", FANG, Pt(1), line=Pt(1))
"""Of the empty paragraph that ends a section's pages: it must not need a page of its own."""
_STYLES: Final = (
    _ISSUER,
    _TITLE,
    _ADDRESSEES,
    _BODY,
    _SECTION,
    _SUBSECTION,
    _ATTACHMENT,
    _SIGNATURE,
    _ANNEX_NUMBER,
    _ANNEX_TITLE,
    _CAPTION,
    _CELL,
    _NOTE,
    _GAP,
    _BREAK,
    _PAGE_NUMBER_RIGHT,
    _PAGE_NUMBER_LEFT,
)


def as_docx(bulletin: Bulletin) -> bytes:
    """Write the document: the bytes of a .docx file."""
    return _Writer(bulletin).write()


class _Writer:
    def __init__(self, bulletin: Bulletin) -> None:
        self._bulletin = bulletin
        self._document: DocumentObject = Document()

    def write(self) -> bytes:
        """Write everything down, from the first page to the last."""
        self._prepare()
        self._text()
        self._new_pages(LANDSCAPE_MARGINS, WD_ORIENT.LANDSCAPE)
        for number, annex in enumerate(self._bulletin.annexes, start=1):
            self._annex_title(number, annex.title, on_new_page=number > 1)
            self._table(annex, WIDE_TABLE_SIZE)
        self._new_pages(MARGINS, WD_ORIENT.PORTRAIT)
        self._annex_title(len(self._bulletin.attachments), self._bulletin.attachments[-1])
        for definition in self._bulletin.definitions:
            paragraph = self._paragraph(_BODY, "")
            _set_fonts(paragraph.add_run(f"{definition.word}：")._element, HEI)
            paragraph.add_run(definition.meaning)
        out = io.BytesIO()
        self._document.save(out)
        return out.getvalue()

    # ------------------------------------------------------------ parts

    def _prepare(self) -> None:
        """Styles, fonts, the first pages' layout and numbers, and what the file says of itself."""
        document, bulletin = self._document, self._bulletin
        for style in _STYLES:
            _add_style(document, style)
        _name_alternatives(document)
        _speak_chinese(document)
        document.settings.odd_and_even_pages_header_footer = True
        properties = document.core_properties
        properties.title = "".join(bulletin.title)
        properties.author = bulletin.issuer
        properties.last_modified_by = bulletin.issuer
        properties.comments = ""
        properties.language = "zh-CN"
        properties.created = properties.modified = datetime.combine(bulletin.signed_on, time(), UTC)
        page = document.sections[0]
        _lay_out(page, MARGINS, WD_ORIENT.PORTRAIT)
        _number(page.footer.paragraphs[0], _PAGE_NUMBER_RIGHT)
        _number(page.even_page_footer.paragraphs[0], _PAGE_NUMBER_LEFT)

    def _text(self) -> None:
        bulletin = self._bulletin
        self._paragraph(_ISSUER, bulletin.issuer)
        self._paragraph(_TITLE, "\n".join(bulletin.title))
        if bulletin.addressees:
            self._paragraph(_ADDRESSEES, bulletin.addressees)
        self._paragraph(_BODY, bulletin.opening)
        for section in bulletin.sections:
            self._paragraph(_SECTION, section.title)
            for block in section.blocks:
                match block:
                    case Heading(text):
                        self._paragraph(_SUBSECTION, text)
                    case Paragraph(text):
                        self._paragraph(_BODY, text)
                    case Table():
                        self._paragraph(_CAPTION, block.title)
                        self._table(block, TABLE_SIZE)
                        self._paragraph(_GAP, "")
        end_of_text = len(self._document.paragraphs) - 1
        self._paragraph(_BODY, "")
        for number, name in enumerate(bulletin.attachments, start=1):
            self._paragraph(_ATTACHMENT, f"{'附件：' if number == 1 else '　　　'}{number}．{name}")
        self._paragraph(_BODY, "")
        self._paragraph(_SIGNATURE, bulletin.issuer)
        # The signature must not stand on a page without text.
        for paragraph in self._document.paragraphs[end_of_text:]:
            paragraph.paragraph_format.keep_with_next = True
        self._paragraph(_SIGNATURE, bulletin.signed_on_text)

    def _annex_title(self, number: int, title: str, *, on_new_page: bool = False) -> None:
        self._paragraph(_ANNEX_NUMBER, f"附件{number}").paragraph_format.page_break_before = on_new_page
        self._paragraph(_ANNEX_TITLE, title)

    def _paragraph(self, style: _Style, text: str) -> DocxParagraph:
        return _styled(self._document.add_paragraph(text), style)

    def _new_pages(self, margins: Mapping[str, Length], orientation: WD_ORIENT) -> None:
        page = self._document.add_section(WD_SECTION.NEW_PAGE)
        _styled(self._document.paragraphs[-1], _BREAK)
        _lay_out(page, margins, orientation)

    # ------------------------------------------------------------ tables

    def _table(self, table: Table, size: Length) -> None:
        if table.note:
            self._paragraph(_NOTE, table.note).paragraph_format.keep_with_next = True
        lines = [
            *([(table.headings, (False,) * len(table.headings), HEI)]),
            *(
                (
                    tuple(cell.text for cell in line.cells),
                    tuple(cell.kind is Kind.WORDS for cell in line.cells),
                    HEI if line.is_total else FANG,
                )
                for line in table.lines
            ),
        ]
        made = self._document.add_table(len(lines), len(table.headings), "Table Grid")
        made.alignment = WD_TABLE_ALIGNMENT.CENTER
        made.autofit = False
        _set_cell_margins(made)
        widths = self._widths(table)
        for column, width in zip(made.columns, widths, strict=True):
            column.width = width
        for row, (texts, left, font) in zip(made.rows, lines, strict=True):
            row.height_rule = WD_ROW_HEIGHT_RULE.AT_LEAST
            row.height = ROW_HEIGHT
            row._tr.get_or_add_trPr().append(OxmlElement("w:cantSplit"))
            for cell, text, is_left, width in zip(row.cells, texts, left, widths, strict=True):
                cell.width = width
                cell.vertical_alignment = WD_CELL_VERTICAL_ALIGNMENT.CENTER
                paragraph = _styled(cell.paragraphs[0], _CELL)
                paragraph.alignment = _LEFT if is_left else _CENTRE
                run = paragraph.add_run(text)
                run.font.size = size
                _set_fonts(run._element, font)
        made.rows[0]._tr.get_or_add_trPr().append(OxmlElement("w:tblHeader"))

    def _widths(self, table: Table) -> list[Length]:
        margins = LANDSCAPE_MARGINS if table in self._bulletin.annexes else MARGINS
        across = PAGE[1] if table in self._bulletin.annexes else PAGE[0]
        room = across - margins["left"] - margins["right"]
        # In whole twips, the format's own unit: rounded later, the sum could come out wider than the page.
        return [Twips(Length(room).twips * width // sum(table.widths)) for width in table.widths]


# ---------------------------------------------------------------- what python-docx has no words for


def _add_style(document: DocumentObject, wanted: _Style) -> None:
    style = cast("ParagraphStyle", document.styles.add_style(wanted.name, WD_STYLE_TYPE.PARAGRAPH))
    style.font.size = wanted.size
    if wanted.colour is not None:
        style.font.color.rgb = wanted.colour
    _set_fonts(style.element, wanted.font)
    layout = style.paragraph_format
    layout.alignment = wanted.alignment
    layout.line_spacing_rule = WD_LINE_SPACING.EXACTLY
    layout.line_spacing = wanted.line
    layout.space_before, layout.space_after = wanted.before, wanted.after
    layout.widow_control = False
    # In characters, so that two stay two whatever the size; in points for programs that do not know characters.
    layout.first_line_indent = Length(wanted.first_line * wanted.size)
    layout.right_indent = Length(wanted.right * wanted.size)
    indent = style.element.get_or_add_pPr().get_or_add_ind()
    indent.set(qn("w:firstLineChars"), str(100 * wanted.first_line))
    indent.set(qn("w:rightChars"), str(100 * wanted.right))
    if wanted.level is not None:
        layout.keep_with_next = True
        outline = OxmlElement("w:outlineLvl")
        outline.set(qn("w:val"), str(wanted.level))
        style.element.get_or_add_pPr().append(outline)


def _styled(paragraph: DocxParagraph, style: _Style) -> DocxParagraph:
    # By the id, which is the name: looked up by name, all styles are gone through, for a large table for seconds.
    paragraph._p.style = style.name
    return paragraph


def _set_fonts(element: Any, font: str) -> None:  # noqa: ANN401 - a run's or a style's XML
    """Chinese characters in the font, Latin ones and digits in Times New Roman."""
    fonts = element.get_or_add_rPr().get_or_add_rFonts()
    for of, name in (("ascii", LATIN), ("hAnsi", LATIN), ("cs", LATIN), ("eastAsia", font)):
        fonts.set(qn(f"w:{of}"), name)


def _name_alternatives(document: DocumentObject) -> None:
    """Tell what to take on a machine without a font."""
    part = document.part.part_related_by(RELATIONSHIP_TYPE.FONT_TABLE)
    table = parse_xml(part.blob)
    for name, others in ALTERNATIVES.items():
        font, alternatives = OxmlElement("w:font"), OxmlElement("w:altName")
        font.set(qn("w:name"), name)
        alternatives.set(qn("w:val"), others)
        font.append(alternatives)
        table.append(font)
    part._blob = serialize_part_xml(table)


def _speak_chinese(document: DocumentObject) -> None:
    """Say that the text is of the mainland: which forms characters have and where punctuation stands follow from it."""
    for language in document.styles.element.iter(qn("w:lang")):
        language.set(qn("w:eastAsia"), "zh-CN")


def _lay_out(page: PageSection, margins: Mapping[str, Length], orientation: WD_ORIENT) -> None:
    page.orientation = orientation
    page.page_width, page.page_height = PAGE if orientation is WD_ORIENT.PORTRAIT else PAGE[::-1]
    page.top_margin, page.bottom_margin = margins["top"], margins["bottom"]
    page.left_margin, page.right_margin = margins["left"], margins["right"]
    page.footer_distance = FOOTER_DISTANCE if orientation is WD_ORIENT.PORTRAIT else LANDSCAPE_FOOTER_DISTANCE


def _number(paragraph: DocxParagraph, style: _Style) -> None:
    """— 1 —, as a field that the reader's program fills in."""
    _styled(paragraph, style).add_run("— ")
    for kind in ("begin", "separate", "end"):
        if kind == "separate":
            instruction = OxmlElement("w:instrText")
            instruction.set(qn("xml:space"), "preserve")
            instruction.text = " PAGE "
            paragraph.add_run()._element.append(instruction)
        mark = OxmlElement("w:fldChar")
        mark.set(qn("w:fldCharType"), kind)
        paragraph.add_run()._element.append(mark)
        if kind == "separate":
            paragraph.add_run("1")
    paragraph.add_run(" —")


def _set_cell_margins(table: DocxTable) -> None:
    margins = OxmlElement("w:tblCellMar")
    for side in ("left", "right"):
        margin = OxmlElement(f"w:{side}")
        margin.set(qn("w:w"), str(CELL_MARGIN.twips))
        margin.set(qn("w:type"), "dxa")
        margins.append(margin)
    properties = table._tbl.tblPr
    # Its place is before the look, by the schema.
    properties.insert(list(properties).index(properties.find(qn("w:tblLook"))), margins)
