"""The list of departments and officers: what is right is taken, what is wrong is named and nothing of it taken."""

import pytest

from kuaixiang.domain.words import DepartmentKind, Role
from kuaixiang.facts import FactsMalformed, parse_staff

GOOD = """
version = "2026.1"

[330106.departments]
tax-service = { name = "纳税服务股", kind = "tax-service" }
policy = { name = "税政股", kind = "policy" }
leadership = { kind = "leadership" }

[330106.officers]
zj-0007 = { name = "王", roles = ["registrar", "tax-service"], departments = ["tax-service"] }
zj-0001 = { roles = ["deputy-head"], departments = ["leadership"], oversees = ["policy"] }
"""


def test_departments_and_officers_are_read_by_bureau() -> None:
    staff = parse_staff(GOOD)["330106"]
    assert "2026.1" == staff.version
    assert DepartmentKind.POLICY is staff.departments["policy"].kind
    officer = staff.officers["zj-0007"]
    assert (frozenset({Role.REGISTRAR, Role.TAX_SERVICE}), frozenset({"tax-service"})) == (
        officer.roles,
        officer.departments,
    )
    assert frozenset({"policy"}) == staff.officers["zj-0001"].oversees


@pytest.mark.parametrize(
    ("old", "new", "place", "remedy"),
    [
        ('version = "2026.1"', "", "the version is not named", "version ="),
        ("[330106.", "[33010.", "33010: is not a bureau's code", "six digits"),
        (
            'kind = "policy"',
            'kind = "customs"',
            "330106.departments.policy: there is no customs",
            "tax-service, policy",
        ),
        ('roles = ["deputy-head"]', 'roles = ["king"]', "330106.officers.zj-0001: there is no king", "registrar"),
        ('roles = ["deputy-head"]', 'roles = ["system"]', "330106.officers.zj-0001: there is no system", "registrar"),
        ('roles = ["deputy-head"]', "roles = []", "330106.officers.zj-0001: has no role", "registrar"),
        ('departments = ["leadership"]', 'departments = ["customs"]', "names the department customs", "policy"),
        ('oversees = ["policy"]', 'oversees = ["customs"]', "names the department customs", "policy"),
        ('departments = ["tax-service"]', 'departments = ["policy"]', "in no such department", "of that kind"),
        ('kind = "tax-service"', 'kind = "other"', "no department is of the kind tax-service", "dispatches"),
        ("oversees", "overlooks", "has overlooks", "oversees"),
        ("zj-0001 =", '"zj 0001" =', "zj 0001: officer is not an officer's identification; ", "officer's number"),
        ('["registrar", "tax-service"]', '"registrar"', "roles is not a list of texts", 'roles = ["..."]'),
    ],
)
def test_what_is_wrong_is_named_by_its_place_with_what_to_do(old: str, new: str, place: str, remedy: str) -> None:
    assert old in GOOD
    with pytest.raises(FactsMalformed, match=r"^staff\.toml") as wrong:
        parse_staff(GOOD.replace(old, new), "staff.toml")
    assert place in str(wrong.value)
    assert remedy in str(wrong.value)


def test_what_is_no_toml_is_refused_with_its_line() -> None:
    with pytest.raises(FactsMalformed, match="line 3"):
        parse_staff('version = "1"\n\n[330106\n', "staff.toml")
