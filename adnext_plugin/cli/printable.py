"""What a terminal is sent: text that shows itself, and no sequences that move the cursor or run something.

Names of files, subjects and classes are text of other people. Every character that is none to look at is shown by its
code, whoever prints it; a line of progress may begin anew.
"""

import re

# control characters, half characters (which cannot be encoded), and what turns the direction of writing
INVISIBLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]|(?<!^)\r(?!\n|$)")


def printable(text: str) -> str:
    """The text with codes instead of characters that are not to look at."""
    return INVISIBLE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)
