"""The pages of JSON in which the Illuminate firmware describes itself, as it writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence


def properties_page(device_name: str, led_count: int, version: str, channels: int = 1) -> str:
    """Identity and properties; without a newline, so that the end mark follows the brace."""
    properties = {
        "device_name": device_name,
        "led_count": led_count,
        "color_channels": ["r", "g", "b"] if channels == 3 else ["w"],
        "trigger_input_count": 1,
        "trigger_output_count": 1,
        "bit_depth": 8,
        "serial_number": 1,
        "color_channel_count": channels,
        "part_number": 43,
        "mac_address": "04:e9:e5:00:00:01",
        "interface_version": float(version),
    }
    lines = (f'    "{name}" : {json.dumps(value)}' for name, value in properties.items())
    return "{\n" + ",\n".join(lines) + "\n}"


def positions_page(name: str, places: Sequence[tuple[float, ...]], digits: int) -> str:
    """The places of its LEDs, in a notation of that name."""
    rows = (
        f'        "{led}" : [{", ".join(f"{value:.{digits}f}" for value in place)}]'
        for led, place in enumerate(places)
    )
    return f'{{\n    "led_position_list_{name}" : {{\n' + ",\n".join(rows) + "\n    }\n}\n"


def values_page(values: Sequence[int]) -> str:
    """The values that commands wrote to its LEDs."""
    rows = (f'        "{led}" : [{value}]' for led, value in enumerate(values))
    return '{\n    "led_values" : {\n' + ", \n".join(rows) + " \n    }\n}\n"


def na_xy(place_mm: tuple[float, float, float]) -> tuple[float, float]:
    """An LED's numerical aperture along x and y, as the firmware computes it."""
    x, y, z = place_mm
    return math.sin(math.atan(x / math.hypot(y, z))), math.sin(math.atan(y / math.hypot(x, z)))
