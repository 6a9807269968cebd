"""The current resources as FHIR's bulk files: one NDJSON a type, all of one moment.

https://hl7.org/fhir/uv/bulkdata/export.html
"""

import gzip
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import Progress

from fhir_server.cli.archive_file import replace_file, sync_folder
from fhir_server.cli.moving import repeated
from fhir_server.core import resource_json
from fhir_server.core.search.query import Cursor, Query
from fhir_server.core.version import Version, format_instant
from fhir_server.store.open import OpenStore

_AT_ONCE = 500
_LEVEL = 4


async def export_current(
    store: OpenStore,
    folder: Path,
    types: Sequence[str],
    now: datetime,
    progress: Progress,
    *,
    is_gzip: bool,
    give: Callable[[Version], Version | None] = lambda version: version,
) -> dict[str, int]:
    """A file in `folder` for each of `types` that has resources, and `manifest.json`.

    `give` says what of each goes into it. Returns how many each type has.

    Raises:
        OSError: a file cannot be written.
        Gone: the store purged the moment meanwhile.
    """
    as_of = (await repeated(store.extent)).newest
    counts: dict[str, int] = {}
    output: list[dict[str, Any]] = []
    task = progress.add_task("writing", total=None)
    for name in types:
        path = folder / f"{name}.ndjson{'.gz' * is_gzip}"
        part = path.with_name(path.name + ".part")
        part.unlink(missing_ok=True)
        count = 0
        after: Cursor | None = None
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            while True:
                query = Query(name, count=_AT_ONCE, after=after, as_of=as_of)
                page = await repeated(partial(store.search, query))
                given = [shown for v in page.versions if (shown := give(v)) is not None]
                bodies = [v.body for v in given if v.body is not None]
                text = b"".join(body + b"\n" for body in bodies)
                file.write(gzip.compress(text, _LEVEL, mtime=0) if is_gzip and text else text)
                count += len(bodies)
                progress.advance(task, len(bodies))
                after = page.next
                if after is None:
                    break
            file.flush()
            os.fsync(file.fileno())
        if count:
            part.replace(path)
            counts[name] = count
            output.append({"type": name, "url": path.name, "count": count})
        else:
            part.unlink()
            path.unlink(missing_ok=True)
    manifest = {"transactionTime": format_instant(now), "output": output}
    replace_file(folder / "manifest.json", resource_json.format(manifest) + b"\n")
    sync_folder(folder / "manifest.json")
    return counts
