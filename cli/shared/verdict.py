"""The verdict on a run in a sentence."""

from typing import Any

from plsctl.cli.shared.output import print_message


def print_verdict(result: dict[str, Any]) -> None:
    """Print whether a run is better than the baselines, and what to do if it is not."""
    from plsctl.models.evaluation.verdict import REMEDY

    print_message(result["verdict_text"])
    if result["verdict"] != "better":
        print_message(REMEDY)
