"""The model registry in memory."""

from __future__ import annotations

from tickless.adapters.model_registry import ModelRegistry
from tickless.adapters.object_store import MemoryObjects


class MemoryModelStore(ModelRegistry):
    """The ModelStore port in memory; ``objects.contents`` lets a test damage an artifact."""

    def __init__(self) -> None:
        self.objects = MemoryObjects()
        super().__init__(self.objects)
