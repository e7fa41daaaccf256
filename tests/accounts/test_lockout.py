"""Whose wrong passwords are counted together."""

from datetime import UTC, datetime

import pytest

from kuaixiang.accounts.lockout import FREE_FOR_ADDRESS, Lockout
from kuaixiang.accounts.servicer import address_of
from kuaixiang.domain.sign_in import TooManyAttempts
from tests.hub.journals import DONGCHENG

AT = datetime(2026, 9, 21, 1, tzinfo=UTC)


def guessed(*addresses: str) -> Lockout:
    """As many wrong passwords of as many accounts."""
    lockout = Lockout(lambda: AT)
    for number, address in enumerate(addresses):
        lockout.failed((DONGCHENG, f"R{number}"), address)
    return lockout


def test_who_has_a_network_of_addresses_guesses_no_more_often_than_who_has_one() -> None:
    lockout = guessed(*(f"2001:db8:7:7::{number:x}" for number in range(FREE_FOR_ADDRESS + 1)))
    with pytest.raises(TooManyAttempts):
        lockout.check((DONGCHENG, "T01"), "2001:db8:7:7:ffff::1")
    lockout.check((DONGCHENG, "T01"), "2001:db8:7:8::1")


def test_an_address_is_the_same_one_by_a_page_by_grpc_and_in_its_longer_form() -> None:
    peers = ("ipv4:10.1.2.3:5000", "ipv6:%5B::ffff:10.1.2.3%5D:5001")
    addresses = ("10.1.2.3", *map(address_of, peers))
    lockout = guessed(*(addresses[number % 3] for number in range(FREE_FOR_ADDRESS + 1)))
    for address in addresses:
        with pytest.raises(TooManyAttempts):
            lockout.check((DONGCHENG, "T01"), address)
    lockout.check((DONGCHENG, "T01"), "10.1.2.4")
    lockout.check((DONGCHENG, "T01"), "not an address")
