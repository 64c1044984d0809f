"""What our files say of themselves, so that another program's, or a later version's, is refused instead of misread."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adnext_plugin.errors import FormatError

FORMAT, VERSION = "format", "format_version"  # keys


@dataclass(frozen=True, kw_only=True)
class Format:
    """One kind of file.

    Files of version 0.1.0 of the package say nothing of themselves; they are of format version 1 and are known by a
    key that no other program's file has.

    `words` are what such a file is called in messages, `remedy` is what to do for one.
    """

    name: str
    version: int
    known_by: str
    words: str
    remedy: str

    def stamped(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The content as it is stored, the format first."""
        return {FORMAT: self.name, VERSION: self.version, **content}

    def is_of(self, stored: Any) -> bool:
        """Whether what is stored is, in some version, of this format."""
        if not isinstance(stored, Mapping):
            return False
        return stored[FORMAT] == self.name if FORMAT in stored else self.known_by in stored

    def content_of(self, stored: Any, where: str) -> dict[str, Any]:
        """What is stored, without what it says of itself.

        Args:
            stored: what was read.
            where: the file, for messages.

        Raises:
            FormatError: it is of something else, or of a later version.
        """
        if not self.is_of(stored):
            raise FormatError(f"{where} is not {self.words}; {self.remedy}")
        version = stored.get(VERSION, 1)
        if not isinstance(version, int) or not 1 <= version <= self.version:
            raise FormatError(
                f"{where} is of format version {version!r}, and this version of adnext_plugin reads up to "
                f"{self.version}; install the version that wrote it, or {self.remedy}"
            )
        return {key: value for key, value in stored.items() if key not in (FORMAT, VERSION)}
