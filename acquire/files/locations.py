"""Folders on this machine and in object stores: one notation, `scans/S001` or `s3://lab/S001`.

Small files of a store go through fsspec, as paths that work like pathlib's; pixels go through
tensorstore, which fetches the parts of an array that are asked for by itself and in parallel.
Credentials, region and address of a store come from the environment or the files that the
store's own tools read, such as `AWS_ACCESS_KEY_ID`, `AWS_DEFAULT_REGION`, `AWS_ENDPOINT_URL`.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from plsctl.acquire.errors import UserError

if TYPE_CHECKING:
    import zarr

STORES = ("s3", "gs", "gcs", "http", "https")
_MENDED = re.compile(rf"^({'|'.join(STORES)}):/(?=[^/])")

LONGEST_NAME = 255
"""Bytes of a file's name that every usual file system takes."""

LONGEST_PATH = 4095
"""Bytes of a whole path that the system takes."""


def location(text: str | Path) -> Path:
    """A folder or file by its path or URL; what URLs give works like a `Path`.

    `~` is the user's home where nothing of that name stands here, and a path that ends in `.` or
    `..` becomes that of the folder it stands for: what is written beside it needs its name.

    Raises
    ------
    UserError
        The URL is of no store whose pixels can be read, or what it takes is not installed; or no
        file can have that name.
    """
    if not isinstance(text, str):
        if not isinstance(text, Path) or not _MENDED.match(str(text)):
            return text if is_remote(text) else _local(text)
        # Settings files and other commands make a Path of a URL, which takes one slash from it.
        text = _MENDED.sub(r"\1://", str(text))
    if "://" not in text:
        return _local(text)
    protocol, rest = text.split("://", 1)
    if protocol == "file":
        return _local(rest)
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


def _local(text: str | Path) -> Path:
    refuse_impossible(str(text))
    path = Path(text)
    if path.parts[:1] and path.parts[0].startswith("~") and not os.path.lexists(path.parts[0]):
        with contextlib.suppress(RuntimeError):  # there is no such user
            path = path.expanduser()
    return real_path(path) if path.name in ("", "..") else path


def refuse_impossible(text: str) -> None:
    """UserError if no file can have that path."""
    shown = text if len(text) <= 60 else f"{text[:40]}...{text[-10:]}"
    problem = None
    if not text:
        problem, shown = "an empty name stands where a file or folder is expected.", "''"
    elif "\0" in text:
        problem, shown = "a name cannot hold a NUL byte.", repr(shown)
    else:
        try:
            longest = max(len(part.encode()) for part in re.split(r"[\\/]", text))
        except UnicodeEncodeError:
            problem, shown = "this name is not text in UTF-8.", ascii(shown)
        else:
            if longest > LONGEST_NAME or len(text.encode()) > LONGEST_PATH:
                problem = (
                    f"this name is too long: {max(longest, len(text.encode()))} bytes, and disks "
                    f"take {LONGEST_NAME} of a name, {LONGEST_PATH} of a path."
                )
    if problem is not None:
        raise UserError(problem, file=shown, hint="Give another name.")


def real_path(path: Path) -> Path:
    """Where a local path leads, links and `..` followed as the system follows them.

    Whoever replaces a file or folder, or writes one beside it, does so there.
    """
    return path if is_remote(path) else Path(os.path.realpath(path))


def written_at(path: Path) -> Path:
    """Where something of that name is written: a link stays one, and what it leads to changes."""
    return real_path(path) if not is_remote(path) and path.is_symlink() else path


def beside(name: str | Path, folder: Path) -> Path:
    """A path that stands in a file of `folder`: relative ones start there, and not here."""
    place = location(name)
    return place if is_remote(place) or place.is_absolute() else folder / place


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
        # tensorstore refuses `..`, which only the system can follow: a link may stand before it.
        plain = real_path(path) if ".." in path.parts or path.root == "//" else path.absolute()
        return {"driver": "file", "path": plain.as_posix()}
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
