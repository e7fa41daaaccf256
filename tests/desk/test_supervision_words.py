"""Every sentence on the pages of supervision has its Chinese, and no Chinese is kept for a sentence that is gone."""

from pathlib import Path

import jinja2

import node.desk
from kuaixiang.web.words import SHARED
from node.desk.words_supervision import SUPERVISION

TEMPLATES = Path(node.desk.__file__).parent / "templates"
OURS = {
    "_bureaus", "_lights", "_order_fields", "_supervision", "ledger", "order", "order_act", "orders", "reconcile", "subordinate",
    "subordinate_case",
}  # fmt: skip

NAVIGATION = {"Orders", "Subordinates", "Reconciliation", "Ledger"}
"""What the desk's own navigation calls these pages."""


def sentences() -> set[str]:
    environment = jinja2.Environment(extensions=["jinja2.ext.i18n"], autoescape=True)
    return {
        said if isinstance(said, str) else said[0]
        for path in TEMPLATES.glob("*.html")
        if path.stem in OURS
        for _, _, said in environment.extract_translations(path.read_text("utf-8"))  # type: ignore[attr-defined]
    }


def test_every_sentence_has_its_chinese() -> None:
    assert [] == sorted(said for said in sentences() if said not in SUPERVISION and said not in SHARED)


def test_no_chinese_is_kept_for_a_sentence_that_is_gone() -> None:
    named = sentences() | NAVIGATION
    assert [] == sorted(english for english in SUPERVISION if english not in named)
