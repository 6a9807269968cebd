"""`fhir-server export`: everything a store holds, or the current resources, as files."""

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from fhir_server.app import Components, open_components
from fhir_server.cli import start_up
from fhir_server.cli.archive_file import NAME, ArchiveFile
from fhir_server.cli.audit import operator
from fhir_server.cli.export_current import export_current
from fhir_server.cli.moving import check_store_is_there, progress_bar, repeated
from fhir_server.cli.start_up import StartUpError
from fhir_server.core import archive
from fhir_server.core.archive import Manifest
from fhir_server.core.security import audit_record
from fhir_server.core.security.audit_record import AuditRecord
from fhir_server.errors import InvalidResource
from fhir_server.privacy import recipient_of
from fhir_server.store.open import OpenStore
from fhir_server.store.protocol import DeliveryState
from fhir_server.store.trail import TrailEntry

_AT_ONCE = 500
_WAITING = (DeliveryState.QUEUED, DeliveryState.SENT)

_stdout = Console(soft_wrap=True, highlight=False)
_stderr = Console(stderr=True, soft_wrap=True, highlight=False)


class Format(StrEnum):
    """What an export is for: to be moved, or to be read by others."""

    VERSIONS = "versions"
    NDJSON = "ndjson"


def export(
    target: Annotated[Path, typer.Argument(help="A folder, or a file …ndjson or …ndjson.gz.")],
    store: Annotated[str | None, typer.Option(help="Overrides FHIR_SERVER_STORE.")] = None,
    format_: Annotated[
        Format,
        typer.Option("--format", help="versions: everything, for `import`. ndjson: FHIR's files."),
    ] = Format.VERSIONS,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="With ndjson: these resource types only.")
    ] = None,
    recipient: Annotated[
        str | None, typer.Option("--for", help="With ndjson: de-identified, by this policy.")
    ] = None,
    gzip: Annotated[bool, typer.Option("--gzip", help="In a folder: compress the files.")] = False,
) -> None:
    """Write what a store holds, while servers use it; run again, it goes on where it ended."""
    with start_up.told_in_one_line():
        if types and format_ is Format.VERSIONS:
            raise ValueError("--type is for --format ndjson: a history is moved as a whole")
        if recipient is not None and format_ is Format.VERSIONS:
            raise ValueError("--for is for --format ndjson: a history names everybody")
        settings = start_up.read_settings(**({} if store is None else {"store": store}))
        check_store_is_there(settings)
        components = open_components(settings)
        try:
            if format_ is Format.NDJSON:
                target.mkdir(mode=0o700, parents=True, exist_ok=True)
                asyncio.run(
                    _export_current(components, target, types or (), recipient, is_gzip=gzip)
                )
            else:
                path = target
                if not target.name.endswith((".ndjson", ".ndjson.gz")):
                    path = target / (NAME + ".gz" * gzip)
                asyncio.run(_export(components, path))
        except OSError as error:
            raise StartUpError(f"{target}: {error.strerror}; run it again, it goes on") from None


async def _export(components: Components, path: Path) -> None:
    store = components.store
    try:
        with progress_bar(_stderr, "versions") as progress:
            manifest = await write_versions(
                store, path, progress, has_sinks=bool(components.settings.adapters)
            )
    finally:
        await store.close()
    _stdout.print(f"{path}: {manifest.versions} versions, digest {manifest.digest}", markup=False)
    if manifest.undelivered_from is not None:
        _stderr.print(
            f"from {manifest.undelivered_from} of the commit order on not everything was "
            "delivered; docs/moving.md says what to do",
            style="yellow",
        )


async def write_versions(
    store: OpenStore, path: Path, progress: Progress, *, has_sinks: bool
) -> Manifest:
    """Every version up to now into the file at `path`, behind those that are there.

    Raises:
        InvalidResource: the file is no export, or another store's.
        OSError: the file cannot be written.
    """
    extent = await repeated(store.extent)
    undelivered_from = await _undelivered(store, extent.outbox, extent.newest, has_sinks=has_sinks)
    reading = progress.add_task("reading what is there", total=None)

    def report(done: int, total: int) -> None:
        progress.update(reading, completed=done, total=total)

    # Not beside the loop: nothing else runs on it.
    with ArchiveFile(path, report) as file:
        progress.remove_task(reading)
        await _check_same_store(store, file, path)
        writing = progress.add_task("writing", total=extent.newest, completed=file.versions)
        while file.versions < extent.newest:
            limit = min(_AT_ONCE, extent.newest - file.versions)
            after = file.versions
            versions = await repeated(partial(store.changes, after, limit))
            for version in versions:
                if version.sequence != file.versions + 1:
                    raise InvalidResource(f"the store lacks {file.versions + 1} of its order")
                file.add(version)
            if not versions:
                raise InvalidResource(f"the store ends at {after} of its order")
            progress.update(writing, completed=file.versions)
        return file.finish(undelivered_from)


async def _check_same_store(store: OpenStore, file: ArchiveFile, path: Path) -> None:
    if not file.versions:
        return
    after = file.versions - 1
    found = await repeated(partial(store.changes, after, 1))
    if not found or archive.format_line(found[0]) != file.last_line:
        raise InvalidResource(f"{path} is an export of another store; give another name")


async def _undelivered(
    store: OpenStore, position: int, newest: int, *, has_sinks: bool
) -> int | None:
    """From where in the commit order something has yet to be delivered."""
    waiting = await asyncio.to_thread(store.outbox.list, None, _WAITING, 1, 0)
    if waiting:
        return min(waiting[0].sequence, position + 1)
    counts = await asyncio.to_thread(store.outbox.counts)
    # Where nothing was ever to be delivered the outbox looks at nothing.
    return position + 1 if position < newest and (has_sinks or counts) else None


async def _export_current(
    components: Components,
    folder: Path,
    types: tuple[str, ...] | list[str],
    recipient: str | None,
    *,
    is_gzip: bool,
) -> None:
    known = components.definitions.validator.resource_types
    unknown = sorted(set(types) - known)
    if unknown:
        raise ValueError(f"no resource type is called {', '.join(unknown)}; mind the case")
    settings, definitions = components.settings, components.definitions
    try:
        given = recipient_of(settings, definitions, recipient) if recipient is not None else None
        if given is not None:
            types = sorted(set(types or given.policy.types) & given.policy.types.keys())
        if settings.is_audited or given is not None:
            await _record(components.store, recipient, types)
        with progress_bar(_stderr, "resources") as progress:
            counts = await export_current(
                components.store,
                folder,
                sorted(types or known),
                components.context.now(),
                progress,
                is_gzip=is_gzip,
                **({} if given is None else {"give": given.give}),
            )
    finally:
        await components.store.close()
    for name, count in counts.items():
        _stdout.print(f"{name}: {count}")
    _stdout.print(f"{folder}: {sum(counts.values())} resources", markup=False)


async def _record(store: OpenStore, recipient: str | None, types: Sequence[str]) -> None:
    """Put on record who takes what with them, before they have it."""
    asked = f"export --format ndjson --type {','.join(types)}"
    record = AuditRecord(
        "export", "R", asker=operator(), request=asked, reason=f"for {recipient}" * bool(recipient)
    )
    entry = TrailEntry(audit_record.format(record))
    await store.commit(lambda tx: tx.record([entry]))
