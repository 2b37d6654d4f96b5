"""Folders on this machine and in object stores: one notation, `scans/S001` or `s3://lab/S001`.

Small files of a store go through fsspec, as paths that work like pathlib's; pixels go through
tensorstore, which fetches the parts of an array that are asked for by itself and in parallel.
Credentials, region and address of a store come from the environment or the files that the
store's own tools read, such as `AWS_ACCESS_KEY_ID`, `AWS_DEFAULT_REGION`, `AWS_ENDPOINT_URL`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from plsctl.acquire.errors import UserError

if TYPE_CHECKING:
    import zarr

STORES = ("s3", "gs", "gcs", "http", "https")
_MENDED = re.compile(rf"^({'|'.join(STORES)}):/(?=[^/])")


def location(text: str | Path) -> Path:
    """A folder or file by its path or URL; what URLs give works like a `Path`.

    `~` is the user's own folder.

    Raises
    ------
    UserError
        No such store is supported, or the package for it is not installed.
    """
    if not isinstance(text, str):
        if is_remote(text):
            return text
        if not _MENDED.match(str(text)):
            return text.expanduser()
        # Settings files and other commands make a Path of a URL, which takes one slash from it.
        text = _MENDED.sub(r"\1://", str(text))
    if "://" not in text:
        return Path(text).expanduser()
    protocol, rest = text.split("://", 1)
    if protocol == "file":
        return Path(rest)
    if protocol not in STORES:
        raise UserError(
            f"there is no way to read images from '{protocol}://'.",
            file=text,
            hint="Give a folder, or a URL of s3://, gs:// or https://.",
        )
    try:
        from upath import UPath

        return cast(Path, UPath(text.rstrip("/")))
    except ImportError as error:
        raise UserError(
            f"reading from '{protocol}://' takes packages that are not installed ({error}).",
            file=text,
            hint="Install them: pip install 'plsctl[stores]' (for gs:// also gcsfs).",
        ) from None


def is_remote(path: Path) -> bool:
    """Whether a location is in a store."""
    return not isinstance(path, Path)


def refuse_readonly(path: Path) -> None:
    """UserError if nothing can be written where the location is."""
    if is_remote(path) and path.as_posix().startswith(("http://", "https://")):
        raise UserError(
            "can only be read.",
            file=path.as_posix(),
            hint="Take a folder, or a URL of s3:// or gs://.",
        )


def kvstore(path: Path) -> dict[str, Any]:
    """How tensorstore opens a location."""
    if not is_remote(path):
        # tensorstore takes no "..".
        return {"driver": "file", "path": path.resolve().as_posix()}
    url = path.as_posix()
    protocol, rest = url.split("://", 1)
    if protocol in ("http", "https"):
        return {"driver": "http", "base_url": url}
    bucket, _, key = rest.partition("/")
    if protocol in ("gs", "gcs"):
        return {"driver": "gcs", "bucket": bucket, "path": f"{key}/"}
    return {"driver": "s3", "bucket": bucket, "path": f"{key}/", **_s3_options()}


def open_group(path: Path) -> zarr.Group:
    """A location as zarr-python reads it, for those who use what is in there."""
    import zarr
    from zarr.storage import FsspecStore

    if is_remote(path):
        return zarr.open_group(FsspecStore.from_url(path.as_posix(), read_only=True), mode="r")
    return zarr.open_group(path.resolve(), mode="r")


def _s3_options() -> dict[str, Any]:
    """What tensorstore does not take from the environment as Amazon's own tools do."""
    found: dict[str, Any] = {}
    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if address:
        found |= {"endpoint": address, "aws_region": region or "us-east-1"}
    elif region:
        found["aws_region"] = region
    if "AWS_ACCESS_KEY_ID" in os.environ:
        # Without this it complains on standard error about files of Amazon's that are not there.
        found["aws_credentials"] = {"type": "environment"}
    return found
