"""Turning the bytes of a text table into text: UTF-8, UTF-16 as Excel's "Unicode text", or Windows' Western encoding.

Detectors of encodings (charset-normalizer was tried) are made for prose. A table has few letters beyond ASCII, and they
read Genève as Genčve. So one encoding beyond Unicode is taken, and only where its letters stand as they do in names.
"""

import codecs
import re
from pathlib import Path

from adnext_plugin.errors import TableError

WESTERN = "cp1252"  # Latin-1 with quotes and dashes; what Excel calls CSV on Western Windows
PUNCTUATION = set("“”‘’„‚–—…€°±µ²³·•§«»¿¡ªº½¼¾×÷™®©\u00a0´")
REMEDY = "save it as UTF-8 (Excel: CSV UTF-8), or as XLSX"
# three letters in a row beyond ASCII, or a capital in the middle of a word: another alphabet, read wrongly
UNLIKELY = re.compile(r"[^\W\d_\x00-\x7f]{3}|(?<=[^\W\d_])[À-ÖØ-ÞŠŒŽŸ](?=[a-zß-öø-ÿ])")


def decoded(path: Path) -> tuple[str, str]:
    """The text of a file, and the encoding it was in.

    Raises:
        TableError: the file cannot be opened, or is no text in an encoding that can be known for sure.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    encoding = _unicode_of(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise TableError(f"{path} is not a text table ({error}); save it as CSV (comma) or TSV (tab)") from error
        return _western(content, path), WESTERN
    if encoding.startswith("utf-16") and "\n" not in text and "\r" not in text:
        raise TableError(f"{path} is not a text table (it begins as UTF-16, and has no line); {REMEDY}")
    return text, encoding.removesuffix("-sig")


def encoding_note(path: Path) -> str:
    """What the report says about a text table that was not in Unicode; "" for others."""
    if decoded(path)[1] != WESTERN:
        return ""
    return f"{path.name} is not UTF-8, and was read as {WESTERN} (Windows, Western)"


def _unicode_of(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # without its mark UTF-16 shows by the zero bytes of its commas, tabs and digits
    beginning = content[:4096]
    if len(beginning) > 3 and beginning[1::2].count(0) > len(beginning) / 4 and 0 not in beginning[::2]:
        return "utf-16-le"
    if len(beginning) > 3 and beginning[::2].count(0) > len(beginning) / 4 and 0 not in beginning[1::2]:
        return "utf-16-be"
    return "utf-8-sig"


def _western(content: bytes, path: Path) -> str:
    try:
        text = content.decode(WESTERN)
    except UnicodeDecodeError:
        raise TableError(f"{path} is not a text table, or one in an encoding that is not known; {REMEDY}") from None
    high = {character for character in text if ord(character) > 127}
    is_binary = any(ord(character) < 32 and character not in "\t\r\n\f\v" for character in text)
    if is_binary or not all(character.isalpha() or character in PUNCTUATION for character in high):
        raise TableError(f"{path} is not a text table, or one in an encoding that is not known; {REMEDY}")
    if UNLIKELY.search(text):
        raise TableError(f"{path} is neither UTF-8 nor in Windows' Western encoding; {REMEDY}")
    return text
