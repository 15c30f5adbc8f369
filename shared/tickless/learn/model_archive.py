"""``model.tar.gz``: what SageMaker makes of a training's model folder, and the ``retrain`` function too."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Mapping

from tickless.errors import ArtifactError

MOST_BYTES = 256 * 1024 * 1024
"""More than any model of ours weighs."""


def pack(files: Mapping[str, bytes]) -> bytes:
    """The archive of files by name; the same files, the same bytes."""
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", mtime=0, filename="") as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            archive.addfile(entry, io.BytesIO(files[name]))
    return content.getvalue()


def unpack(content: bytes, names: frozenset[str]) -> dict[str, bytes]:
    """The plain files called ``names`` at the top of an archive; all others are left alone. Nothing is written to a disk.

    Raises ArtifactError for what is no such archive, or unpacks to more than ``MOST_BYTES``.
    """
    found: dict[str, bytes] = {}
    left = MOST_BYTES
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for entry in archive:
                left -= max(0, entry.size)
                if left < 0:
                    raise ArtifactError(f"model.tar.gz: unpacks to more than {MOST_BYTES} bytes")
                name = entry.name.removeprefix("./")
                file = archive.extractfile(entry) if entry.isfile() and name in names else None
                if file is not None:
                    found[name] = file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ArtifactError(f"model.tar.gz: cannot be read: {error}") from error
    return found
