"""What is registered in the tests of whole federations."""

from kuaixiang.domain import acts
from kuaixiang.domain.words import Category, Channel


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
