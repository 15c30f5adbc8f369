"""Which models can be trained here: the folders of ``models/``, by name. What is in them, ``tickless.learn.spec`` reads."""

from __future__ import annotations

from pathlib import Path


def models_folder() -> Path:
    """The folder of the model specifications: inside the installed package, or the checkout's ``models/``.

    A wheel or a Lambda layer carries the folder as ``tickless/models``; an editable install reads it where it is edited.
    """
    package = Path(__file__).resolve().parents[1]
    shipped = package / "models"
    return shipped if shipped.is_dir() else package.parents[1] / "models"


def specified_models() -> tuple[str, ...]:
    """The names of all models that have a specification, sorted."""
    return tuple(sorted(path.parent.name for path in models_folder().glob("*/spec.toml")))
