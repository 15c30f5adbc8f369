"""The model registry in a folder, as ``tickless train`` writes it and ``backtest`` and ``replay`` read it."""

from __future__ import annotations

from pathlib import Path

from tickless.adapters.model_registry import ModelRegistry
from tickless.adapters.object_store import FolderObjects
from tickless.errors import InputError


class FolderModelStore(ModelRegistry):
    """The ModelStore port on a folder. The folder is made by the first write. Raises InputError where ``root`` is a file."""

    def __init__(self, root: Path) -> None:
        if root.exists() and not root.is_dir():
            raise InputError(f"{root}: is a file, the models need a folder")
        super().__init__(FolderObjects(root))
