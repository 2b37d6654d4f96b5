"""Small files of a scan's folder that several steps read."""

from __future__ import annotations

import json

from plsctl.acquire.errors import UserError
from plsctl.acquire.protocols import SlideTransform
from plsctl.acquire.store import ScanFolder


def load_transform(folder: ScanFolder) -> SlideTransform:
    """Where the returned slide lies, as the stained pass found it."""
    try:
        found = json.loads(folder.transform.read_text(encoding="utf-8"))
        return SlideTransform(**found)
    except FileNotFoundError:
        raise UserError(
            "the scan does not say where the stained slide lies.",
            file=folder.transform,
            hint="Take the stained pass: plsctl scan SLIDE.yaml --pass stained.",
        ) from None
    except (ValueError, TypeError):
        raise UserError(
            "this file is damaged.",
            file=folder.transform,
            hint="Delete it and resume the stained pass.",
        ) from None
