"""`fhir-server import`: an export, or plain FHIR resources and Bundles, into a store."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from fhir_server.app import open_components
from fhir_server.cli import start_up
from fhir_server.cli.archive_file import NAME, manifest_path, read_lines
from fhir_server.cli.import_archive import import_archive
from fhir_server.cli.import_door import Door, ServerDoor, StoreDoor
from fhir_server.cli.import_resources import portions
from fhir_server.cli.moving import progress_bar
from fhir_server.cli.server_access import (
    ClientIdOption,
    ClientKeyOption,
    TokenOption,
    access_to,
)
from fhir_server.cli.start_up import StartUpError
from fhir_server.core import archive
from fhir_server.errors import FhirError
from fhir_server.garbage import tune_garbage_collection
from fhir_server.store.open import OpenStore

_SHOWN = 20

_stdout = Console(soft_wrap=True, highlight=False)
_stderr = Console(stderr=True, soft_wrap=True, highlight=False)


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="An export; or Bundles (.json), resources (.ndjson), .gz.", exists=True
        ),
    ],
    store: Annotated[
        str | None, typer.Option(help="Into this store, or FHIR_SERVER_STORE, with no server.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="Into a running server: its URL without /fhir.")
    ] = None,
    redeliver: Annotated[
        bool,
        typer.Option("--redeliver", help="Of an export: deliver what was not when it was made."),
    ] = False,
    token: TokenOption = "",
    client_id: ClientIdOption = "",
    client_key: ClientKeyOption = None,
) -> None:
    """Bring an export or FHIR resources into a store; run again, it goes on where it ended."""
    with start_up.told_in_one_line(), progress_bar(_stderr, "") as progress:
        if store is not None and server is not None:
            raise ValueError("--store and --server: one of them")
        paths = [path for given in files for path in _files(given)]
        exports = [path for path in paths if _is_export(path)]
        if exports and (server is not None or len(paths) > 1):
            raise ValueError(
                "an export goes into an empty store, alone, with --store and without a server"
            )
        if redeliver and not exports:
            raise ValueError("--redeliver is for an export")
        with ExitStack() as stack:
            try:
                if server is not None:
                    door: Door = stack.enter_context(
                        ServerDoor(server, access_to(server, token, client_id, client_key))
                    )
                    failed = _import_resources(door, paths, progress)
                else:
                    settings = start_up.read_settings(**({} if store is None else {"store": store}))
                    components = open_components(settings)
                    tune_garbage_collection()
                    if exports:
                        asyncio.run(
                            _import_export(components.store, exports[0], progress, redeliver)
                        )
                        return
                    door = stack.enter_context(StoreDoor(components))
                    failed = _import_resources(door, paths, progress)
            except OSError as error:
                raise StartUpError(f"{error.filename}: {error.strerror}") from None
    if failed:
        raise typer.Exit(1)


def _files(given: Path) -> list[Path]:
    """The file, or the files of a folder.

    Raises:
        ValueError: the folder holds none.
    """
    if not given.is_dir():
        return [given]
    for name in (NAME, f"{NAME}.gz"):
        if (given / name).exists():
            return [given / name]
    found = sorted(
        path
        for path in given.iterdir()
        if path.name.removesuffix(".gz").endswith((".ndjson", ".jsonl", ".json"))
        and path.name != "manifest.json"
    )
    if not found:
        raise ValueError(f"{given} holds no .ndjson or .json")
    return found


def _is_export(path: Path) -> bool:
    if manifest_path(path).exists():
        return True
    first = next(iter(read_lines(path)), (b"", 0))[0]
    return archive.is_line(first)


async def _import_export(store: OpenStore, path: Path, progress: Progress, redeliver: bool) -> None:
    try:
        moved = await import_archive(store, path, progress, redeliver=redeliver)
    finally:
        await store.close()
    said = f"{moved.restored} versions restored"
    if moved.there:
        said += f", {moved.there} were there"
    _stdout.print(f"{path}: {said}; verified, digest {moved.manifest.digest}", markup=False)
    if moved.acting:
        _stderr.print(
            f"{moved.acting} versions have a narrative that acts where it is shown; a history is "
            "restored as it was",
            style="yellow",
        )
    undelivered_from = moved.manifest.undelivered_from
    if undelivered_from is not None and not redeliver:
        _stderr.print(
            f"from {undelivered_from} of the commit order on not everything had been delivered, "
            "and will not be from here; docs/moving.md says what to do",
            style="yellow",
        )


def _import_resources(door: Door, paths: Sequence[Path], progress: Progress) -> bool:
    """Whether something was not imported."""
    counts: Counter[str] = Counter()
    faults: list[str] = []
    for path in paths:
        task = progress.add_task(path.name, total=path.stat().st_size)
        try:
            for portion in portions(path):
                faults += portion.faults
                for place, answer in zip(portion.places, door.send(portion), strict=True):
                    counts[answer.effect] += 1
                    if answer.effect == "failed":
                        faults.append(f"{place}: {answer.reason}")
                progress.update(task, completed=portion.end)
        except FhirError as error:
            faults.append(str(error) if str(path) in str(error) else f"{path}: {error}")
    for effect, said in (("created", "created"), ("stored", "stored before, or updated")):
        _stdout.print(f"{counts[effect]:>9}  {said}")
    if faults:
        _stdout.print(f"{len(faults):>9}  not imported")
    for fault in faults[:_SHOWN]:
        _stderr.print(fault, style="red", markup=False)
    if len(faults) > _SHOWN:
        _stderr.print(f"… and {len(faults) - _SHOWN} more")
    if faults:
        _stderr.print("mend them and run it again: what is stored is not stored twice")
    return bool(faults)
