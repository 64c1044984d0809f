"""What a user can do about an error: the same words in a command and in the processes that it starts."""

import errno
import os

from adnext_plugin.errors import AdnextError
from adnext_plugin.memory_shortage import shortage_in_words

FOR_ANY_WORK = "use fewer processes (-np), smaller batches or a machine with more"


def problem(error: Exception) -> list[str] | None:
    """The lines that tell a user what to mend; None where it is a fault of ours."""
    if isinstance(error, AdnextError):
        return str(error).splitlines() or [type(error).__name__]
    if (line := shortage_in_words(error, FOR_ANY_WORK)) is not None:
        return [line]
    if isinstance(error, OSError) and error.errno in NO_FILE_NEEDED:
        return [f"{error.strerror}; {NO_FILE_NEEDED[error.errno]}"]
    if isinstance(error, OSError) and error.filename is not None:
        remedy = REMEDIES.get(error.errno or 0, "check the path and the disk")
        return [f"{os.fsdecode(error.filename)}: {error.strerror}; {remedy}"]
    return None


# of errors that the system gives for a file
REMEDIES = {
    errno.EACCES: "change its permissions, or name another",
    errno.EPERM: "change its permissions, or name another",
    errno.EROFS: "the file system is read-only; name another folder",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file; name a folder",
    errno.EISDIR: "it is a folder; name a file",
    errno.EEXIST: "remove it, or name another",
    errno.ENOTEMPTY: "empty it, or name another",
    errno.ENAMETOOLONG: "use shorter names",
    errno.ELOOP: "mend the links, which lead in a circle",
    errno.ENOSPC: "free some space and run the command again",
    errno.EDQUOT: "free some of your quota and run the command again",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f) and run the command again",
}
# of errors that come without a file's name
NO_FILE_NEEDED = {
    errno.ENOSPC: "free some space and run the command again",
    errno.EDQUOT: "free some of your quota and run the command again",
    errno.ENOMEM: "use fewer processes (-np) or a machine with more memory",
    errno.EMFILE: "raise the limit of open files (ulimit -n) and run the command again",
}
