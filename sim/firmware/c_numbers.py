"""Numbers as C's library reads them out of text: what firmwares do instead of refusing."""

from __future__ import annotations

import re


def atoi(word: str) -> int:
    """C's `atoi`: the leading number, 0 where there is none."""
    found = re.match(r"\s*[+-]?\d+", word)
    return int(found.group()) if found else 0


def c_number(word: str) -> int:
    """C's `strtoul` with base 0, cut to 16 bits: `abc` is 0, `-1` is -1, `010` is 8."""
    found = re.match(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|\d+)", word)
    if not found:
        return 0
    digits = found.group(2)
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") else 10
    value = int(digits, base) * (-1 if found.group(1) == "-" else 1)
    return (value + 0x8000) % 0x10000 - 0x8000
