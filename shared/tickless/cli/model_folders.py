"""The options that name models, and the folder or bucket behind them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tickless.cli.deployed import find_desk
from tickless.cli.options import PATH, path_of
from tickless.errors import InputError

if TYPE_CHECKING:
    from tickless.adapters.folder_models import FolderModelStore
    from tickless.adapters.model_registry import ModelRegistry

Models = Annotated[
    Path | None, typer.Option("--models", parser=path_of, metavar=PATH, help="Model folder to start from; it is not changed.")
]
RegistryOf = Annotated[
    Path | None, typer.Option("--models", parser=path_of, metavar=PATH, help="A model folder; without it, the bucket of the deployed desk.")
]


def open_folder(models: Path) -> FolderModelStore:
    """The registry in the folder that ``--models`` names; raises InputError where it is none."""
    from tickless.adapters.folder_models import FolderModelStore

    if not models.is_dir():
        raise InputError(f"--models {models}: {'is a file, the models need a folder' if models.exists() else 'no such folder'}")
    return FolderModelStore(models)


def open_registry(models: Path | None, stage: str) -> ModelRegistry:
    """The registry in a folder, or in the bucket of the deployed desk where none is named. Raises InputError."""
    return find_desk(stage).cloud.models if models is None else open_folder(models)


def known_model(registry: ModelRegistry, name: str) -> str:
    """The name, of which there must be versions. Raises InputError naming the models that there are."""
    names = registry.names()
    if name not in names:
        raise InputError(f"model {name!r}: not registered; there are {', '.join(names) or 'none'}")
    return name


def registered_version(registry: ModelRegistry, name: str, version: str) -> str:
    """The version, which may be damaged, but must be there. Raises InputError naming the versions that there are."""
    known = registry.version_names(known_model(registry, name))
    if version not in known:
        raise InputError(f"model {name}@{version}: not registered; there are {', '.join(known)}")
    return version
