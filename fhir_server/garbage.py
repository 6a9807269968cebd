"""How Python looks for garbage in a process that mostly makes small values."""

import gc


def collect_rarely() -> None:
    """Let reference counts do the work: start-up and readings make few cycles.

    With Python's defaults a fifth of start-up, a quarter of the ingest time and a third of a
    restore's goes into looking for them.
    """
    gc.set_threshold(100_000, 50, 100)


def tune_garbage_collection() -> None:
    """What start-up made stays for good, so it is not looked at again."""
    gc.collect()
    gc.freeze()
    collect_rarely()
