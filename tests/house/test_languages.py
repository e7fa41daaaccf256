"""Every sentence of the pages is in both languages, in the words of the room whose pages say it."""

import ast
import importlib
import re
from pathlib import Path

import jinja2.nodes
import pytest
from jinja2.ext import babel_extract

from kuaixiang.domain.labels import ACTS, FIELDS, TERMS

ROOT = Path(__file__).parents[2]
ROOMS = sorted(folder.parent for folder in ROOT.glob("[a-z]*/**/templates") if list(folder.parent.glob("words*.py")))
NAMES = [str(room.relative_to(ROOT)) for room in ROOMS]
SHARED = ROOT / "kuaixiang" / "web"
PLACE = re.compile(r"%\((\w+)\)s")


def sentences_of(room: Path) -> set[str]:
    """What the templates of a room say by `_`."""
    found: set[str] = set()
    options = {"extensions": "jinja2.ext.i18n", "trim_blocks": "true", "newstyle_gettext": "true", "silent": "false"}
    for template in sorted((room / "templates").rglob("*.html")):
        with template.open("rb") as text:
            for _, _, said, _ in babel_extract(text, ["_", "gettext", "ngettext"], [], options):
                several = said if isinstance(said, tuple) else (said,)
                found |= {one for one in several if isinstance(one, str)}
    return found


def written(room: Path) -> set[str]:
    """Texts in the room's code and templates, by which a page may name a sentence; its own words apart."""
    files = [file for file in room.rglob("*.py") if not file.name.startswith("words")]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    in_code = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    environment = jinja2.Environment(autoescape=True, extensions=["jinja2.ext.i18n"])
    templates = [environment.parse(file.read_text(encoding="utf-8")) for file in (room / "templates").rglob("*.html")]
    in_templates = {node.value for tree in templates for node in tree.find_all(jinja2.nodes.Const)}
    return {one for one in in_code | in_templates if isinstance(one, str)}


def words_of(room: Path) -> dict[str, str]:
    """The room's own words, of all its catalogues."""
    found: dict[str, str] = {}
    for file in sorted(room.glob("words*.py")):
        module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
        for name, value in vars(module).items():
            if name.isupper() and isinstance(value, dict):
                twice = {english for english in value if found.get(english, value[english]) != value[english]}
                assert set() == twice, f"{name} says otherwise what another catalogue of {room.name} has"
                found |= value
    return found


def test_there_are_rooms() -> None:
    assert SHARED in ROOMS
    assert ROOT / "node" / "desk" in ROOMS


@pytest.mark.parametrize("room", ROOMS, ids=NAMES)
def test_every_sentence_of_a_page_has_chinese(room: Path) -> None:
    known = words_of(room) | words_of(SHARED)
    assert [] == sorted(sentences_of(room) - set(known))


@pytest.mark.parametrize("room", ROOMS, ids=NAMES)
def test_no_catalogue_has_a_sentence_that_no_page_says(room: Path) -> None:
    rooms = ROOMS if room == SHARED else [room]
    said = {one for other in rooms for one in sentences_of(other) | written(other)}
    assert [] == sorted(set(words_of(room)) - said)


@pytest.mark.parametrize("room", ROOMS, ids=NAMES)
def test_both_languages_name_the_same_facts(room: Path) -> None:
    differ = [
        english
        for english, chinese in words_of(room).items()
        if set(PLACE.findall(english)) != set(PLACE.findall(chinese))
    ]
    assert [] == differ


def test_what_the_officers_guide_quotes_stands_on_the_pages() -> None:
    terms = {
        term
        for table in (TERMS, ACTS, FIELDS)
        for value in table.values()
        for term in (value if type(value) is tuple else (getattr(value, "chinese", value),))
        if isinstance(term, str)
    }
    known = terms | {chinese for room in ROOMS for chinese in words_of(room).values()}
    quoted = re.findall("「([^」]+)」", (ROOT / "docs" / "OFFICER.zh-CN.md").read_text(encoding="utf-8"))
    assert 40 < len(quoted)
    # Where a page names a bureau in the middle of a sentence, the guide quotes what stands before it.
    assert [] == sorted({one for one in quoted if one and not any(text.startswith(one) for text in known)})
