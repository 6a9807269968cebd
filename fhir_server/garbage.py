"""How Python looks for garbage in a process that mostly makes small values."""

import gc


def tune_garbage_collection() -> None:
    """Let reference counts do the work: readings make few cycles and many small values.

    With Python's defaults a quarter of the ingest time, and a third of a restore's, goes into
    looking for cycles. What start-up made stays for good, so it is not looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
