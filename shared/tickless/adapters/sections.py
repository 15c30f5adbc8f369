"""What a settings section must be to become an SSM parameter."""

from __future__ import annotations

import re

from tickless.errors import SettingsError
from tickless.settings.files import MAX_SECTION_BYTES

_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")


def check_section(section: str, text: str) -> None:
    """Raise SettingsError for a section name that is no parameter name, or a text that is empty or over 4 KB."""
    if not _NAME.fullmatch(section):
        raise SettingsError(f"{section}: not the name of a settings section")
    size = len(text.encode())
    if not 0 < size <= MAX_SECTION_BYTES:
        raise SettingsError(f"{section}: {size} bytes of text; a parameter takes 1 to {MAX_SECTION_BYTES}")
