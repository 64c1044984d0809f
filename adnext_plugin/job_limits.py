"""What a container or a batch job may use of its machine, as Linux's control groups say it.

A process is in one group for each controller (version 1) or in one for all (version 2), and the limits of every group
above hold for it, too. Inside a container the names in `/proc/self/cgroup` are often those of the machine outside, and
only the root of what is mounted is there; the limits are then found in that root.

Source: Linux kernel, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst; scheduler/sched-bwc.rst.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")
UNLIMITED_BYTES = 1 << 60  # version 1 writes "no limit" as the largest number of pages that it can count


@dataclass(frozen=True, kw_only=True)
class MemoryLimit:
    """The least that the groups of a process leave it: in all, and of that what is not in use now."""

    limit_bytes: int
    available_bytes: int


def memory_limit(root: Path = ROOT) -> MemoryLimit | None:
    """The tightest limits of memory; None where there are none, or no control groups at all.

    Args:
        root: folder that holds `proc` and `sys`.
    """
    groups = [
        _version_1(group) if is_version_1 else _version_2(group) for group, is_version_1 in _groups(root, "memory")
    ]
    found = [group for group in groups if group is not None]
    if not found:
        return None
    return MemoryLimit(
        limit_bytes=min(group.limit_bytes for group in found),
        available_bytes=min(group.available_bytes for group in found),
    )


def processor_limit(root: Path = ROOT) -> int | None:
    """How many processors' worth of time there is, whole ones and at least 1; None where it is not limited.

    Args:
        root: folder that holds `proc` and `sys`.
    """
    shares = []
    for group, is_version_1 in _groups(root, "cpu"):
        if is_version_1:
            quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
        else:
            words = _text(group / "cpu.max").split()
            quota, period = (_whole(word) for word in words) if len(words) == 2 else (None, None)
        if quota is not None and period is not None and quota > 0 and period > 0:
            shares.append(quota / period)
    return max(1, int(min(shares))) if shares else None


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Folders of all groups that hold for this process, and whether they are of version 1."""
    mounts = root / "sys" / "fs" / "cgroup"
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        _, controllers, name = parts
        if controllers and controller not in controllers.split(","):
            continue
        below = [part for part in PurePosixPath(name).parts if part not in ("/", "..")]
        mount = next((path for path in _mounts(mounts, controllers, controller) if path.is_dir()), None)
        if mount is None:
            continue
        for depth in range(len(below), -1, -1):
            group = mount.joinpath(*below[:depth])
            if group.is_dir():
                yield group, bool(controllers)


def _mounts(mounts: Path, controllers: str, controller: str) -> tuple[Path, ...]:
    return (mounts / controllers, mounts / controller) if controllers else (mounts,)


def _version_1(group: Path) -> MemoryLimit | None:
    limit = _number(group / "memory.limit_in_bytes")
    if limit is None or not 0 < limit < UNLIMITED_BYTES:
        return None
    return _of(limit, _number(group / "memory.usage_in_bytes"), _reclaimable(group, "total_inactive_file"))


def _version_2(group: Path) -> MemoryLimit | None:
    # above `memory.high` a process is slowed down without end rather than killed
    limits = [_number(group / name) for name in ("memory.max", "memory.high")]
    known = [limit for limit in limits if limit is not None]
    if not known:
        return None
    return _of(min(known), _number(group / "memory.current"), _reclaimable(group, "inactive_file"))


def _of(limit: int, used: int | None, reclaimable: int) -> MemoryLimit:
    taken = max(0, (used or 0) - reclaimable)
    return MemoryLimit(limit_bytes=limit, available_bytes=max(0, limit - taken))


def _reclaimable(group: Path, name: str) -> int:
    """Bytes of files that are kept in memory for no one; they count as used, and make room when room is needed."""
    for line in _text(group / "memory.stat").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _whole(value) or 0
    return 0


def _number(path: Path) -> int | None:
    return _whole(_text(path))


def _whole(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.removeprefix("-").isdigit() else None  # "max" is no limit


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
