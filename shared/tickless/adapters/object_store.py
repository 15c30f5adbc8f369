"""A small seam between the model registry and where its objects lie: get, put on a condition, list."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import Protocol

from tickless.errors import InputError


class ObjectStore(Protocol):
    """Objects by key; keys are ``/``-separated paths."""

    def get(self, key: str) -> tuple[bytes, str] | None:
        """The content and its tag, or None. The tag changes with the content."""
        ...

    def put_if(self, key: str, content: bytes, tag: str | None) -> bool:
        """Store the content if the object still has ``tag`` (None: if there is no object); False where it does not. Atomic."""
        ...

    def keys(self, prefix: str) -> Sequence[str]:
        """All keys that begin with ``prefix``, sorted."""
        ...

    def delete(self, key: str) -> None:
        """Delete the object; one that is not there is no error."""
        ...


class MemoryObjects:
    """Objects in memory."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self._tagged: dict[str, tuple[bytes, str]] = {}
        """What was last read, with its tag: a backtest asks for the same object at every tick."""
        self._lock = RLock()

    def get(self, key: str) -> tuple[bytes, str] | None:
        """See ``ObjectStore.get``."""
        content = self.contents.get(key)
        if content is None:
            return None
        known = self._tagged.get(key)
        if known is None or known[0] is not content:
            known = self._tagged[key] = content, sha256(content).hexdigest()
        return known

    def put_if(self, key: str, content: bytes, tag: str | None) -> bool:
        """See ``ObjectStore.put_if``."""
        with self._lock:
            stored = self.get(key)
            if (stored[1] if stored else None) != tag:
                return False
            self.contents[key] = content
            return True

    def keys(self, prefix: str) -> Sequence[str]:
        """See ``ObjectStore.keys``."""
        return sorted(key for key in self.contents if key.startswith(prefix))

    def delete(self, key: str) -> None:
        """See ``ObjectStore.delete``."""
        with self._lock:
            self.contents.pop(key, None)
            self._tagged.pop(key, None)


class FolderObjects:
    """Objects as files below a folder. A file is written beside its place and renamed, so that no reader sees half of one."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, key: str) -> tuple[bytes, str] | None:
        """See ``ObjectStore.get``; a folder is no object. Raises InputError for a file that cannot be read."""
        try:
            content = (self._root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise InputError(f"{self._root / key}: cannot be read ({error.strerror})") from error
        return content, sha256(content).hexdigest()

    def put_if(self, key: str, content: bytes, tag: str | None) -> bool:
        """See ``ObjectStore.put_if``; writers take turns by a lock on the folder. Raises InputError where it cannot be written."""
        path = self._root / key
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with self._turn():
                stored = self.get(key)
                if (stored[1] if stored else None) != tag:
                    return False
                # In our turn: whoever deletes the last file of a folder takes the folder away.
                path.parent.mkdir(parents=True, exist_ok=True)
                _write_beside(path, content)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from error
        return True

    def keys(self, prefix: str) -> Sequence[str]:
        """See ``ObjectStore.keys``; hidden files are ours and left out."""
        top = self._root / prefix.rpartition("/")[0]
        found = (path for path in top.rglob("*") if path.is_file() and not path.name.startswith("."))
        return sorted(key for path in found if (key := path.relative_to(self._root).as_posix()).startswith(prefix))

    def delete(self, key: str) -> None:
        """See ``ObjectStore.delete``; the folder goes with its last file."""
        path = self._root / key
        if not self._root.is_dir():
            return
        with self._turn():
            path.unlink(missing_ok=True)
            if path.parent != self._root and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        import fcntl

        with (self._root / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _write_beside(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it, so that no reader sees half of one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
