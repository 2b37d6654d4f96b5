"""The verdict on a run in a sentence."""

from typing import Any

from plsctl.cli.shared.output import print_message


def print_verdict(result: dict[str, Any]) -> None:
    """Say whether a run is better than what needs no network, and what to do where it is not."""
    from plsctl.models.evaluation.verdict import REMEDY

    print_message(result["verdict_text"])
    if result["verdict"] != "better":
        print_message(REMEDY)
