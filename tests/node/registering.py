"""One request after the other, for tests in which it is not the request that matters."""

from demo.officers import Officer
from kuaixiang.domain import acts
from kuaixiang.domain.words import Category, Channel, Role

REGISTRAR = Officer("R1", Role.REGISTRAR, "tax-service")


def registration(key: str) -> acts.Register:
    """A request under the channel's number `key`."""
    return acts.Register(
        taxpayer_name="晨光文具店",
        contact="13800138000",
        text="发票",
        category=Category.SERVICE,
        channel=Channel.COUNTER,
        channel_reference=key,
    )
