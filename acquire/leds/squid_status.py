"""The status that a Squid controller sends every 10 ms, and the checksum of its messages."""

from __future__ import annotations

from typing import NamedTuple

STATUS_BYTES = 24
STATUS_INTERVAL_S = 0.01
STATES = range(5)


def _crc_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = byte << 1 ^ (0x107 if byte & 0x80 else 0)
    return byte


CRC_TABLE = tuple(_crc_of_byte(byte) for byte in range(256))


class Status(NamedTuple):
    """How a command went, and the firmware's version."""

    state: int
    version: tuple[int, int]


def crc8(message: bytes) -> int:
    """CRC-8 with polynomial x^8 + x^2 + x + 1 and start value 0."""
    remainder = 0
    for byte in message:
        remainder = CRC_TABLE[remainder ^ byte]
    return remainder


def statuses(raw: bytes, command: int) -> list[Status]:
    """The statuses about a command, in a stream that may begin in the middle of one.

    Every place is looked at. The checksum alone does not find the beginnings: statuses repeat, and
    where a wrong place fits by chance it fits again every 24 bytes.
    """
    found: list[Status] = []
    start = raw.find(command)
    while 0 <= start <= len(raw) - STATUS_BYTES:
        packet = raw[start : start + STATUS_BYTES]
        if packet[1] in STATES and crc8(packet[:-1]) == packet[-1]:
            found.append(Status(packet[1], (packet[22] >> 4, packet[22] & 0xF)))
        start = raw.find(command, start + 1)
    return found
