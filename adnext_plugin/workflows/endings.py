"""How a process ended that a signal ended, in words."""

import signal

SENT = {getattr(signal, name).value for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)}


def end_in_words(number: int, times: str = "") -> str:
    """What a signal did to a process, and what that suggests.

    Args:
        number: of the signal.
        times: how often, such as "3 times"; once if empty.
    """
    name = {one.value: one.name for one in signal.Signals}.get(number, f"signal {number}")
    what = f"{name} {times}".rstrip()
    if name == "SIGKILL":
        return f"was killed by {what}, most likely for want of memory"
    if name in ("SIGTERM", "SIGINT", "SIGHUP"):
        return f"was ended by {what}, which another program or a person sent"
    return f"was ended by {what}, a fault in a library or the machine"
