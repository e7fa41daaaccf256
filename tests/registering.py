"""What is registered in tests in which it is not the request that matters, and who registers it."""

from demo.officers import Officer
from kuaixiang.domain import acts
from kuaixiang.domain.words import Category, Channel, Role

REGISTRAR = Officer("R01", Role.REGISTRAR, "tax-service")


def registration(reference: str) -> acts.Register:
    """A request at a counter, under a number of its own."""
    return acts.Register(
        taxpayer_name="澄筠野百货商行",
        contact="15400001234",
        text="季度销售额没有超过三十万元，两张专票要不要单独缴税？",
        category=Category.POLICY,
        channel=Channel.COUNTER,
        channel_reference=reference,
    )
