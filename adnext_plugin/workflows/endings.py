"""How a process ended that a signal ended, in words."""

import signal

SENT = {getattr(signal, name).value for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)}


def end_in_words(number: int, times: str = "") -> str:
    """What a signal did to a process, and what that suggests.

    Args:
        number: of the signal.
        times: how often, such as "3 times"; once if empty.
    """
    known = {one.value: one.name for one in signal.Signals}
    name = known.get(number, f"signal {number}") + (f" {times}" if times else "")
    if known.get(number) == "SIGKILL":
        return f"was killed by {name}, most likely for want of memory"
    if known.get(number) in ("SIGTERM", "SIGINT", "SIGHUP"):
        return f"was ended by {name}, which another program or a person sent"
    return f"was ended by {name}, a fault in a library or the machine"
