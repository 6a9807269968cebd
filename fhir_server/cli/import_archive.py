"""An export into a store: verified before, written in batches, verified again behind."""

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.progress import Progress

from fhir_server.cli.archive_file import read_lines, read_manifest
from fhir_server.cli.moving import repeated
from fhir_server.core import archive
from fhir_server.core.archive import Chain, Manifest
from fhir_server.core.validation import narrative
from fhir_server.core.version import Version
from fhir_server.errors import InvalidResource, VersionConflict
from fhir_server.store.open import OpenStore

_VERSIONS = 1_000
_BYTES = 8 * 1024 * 1024


class Moved(NamedTuple):
    """What an import found done and did; `acting` of the restored have a narrative that acts."""

    manifest: Manifest
    there: int
    restored: int
    acting: int


async def import_archive(
    store: OpenStore, path: Path, progress: Progress, *, redeliver: bool
) -> Moved:
    """Bring `store` to where the export at `path` ends; what is there already stays.

    Raises:
        InvalidResource: the export is not whole, or was changed. Nothing was written.
        VersionConflict: the store holds something else.
    """
    manifest = read_manifest(path)
    there = (await repeated(store.extent)).newest
    if there > manifest.versions:
        raise VersionConflict(
            f"the store holds {there} versions, the export {manifest.versions}: "
            "the store was written to, or the export is an older one"
        )
    last = _verify_file(path, manifest, there, progress)
    if there:
        newest = await repeated(partial(store.changes, there - 1, 1))
        if not newest or archive.format_line(newest[0]) != last:
            raise VersionConflict("the store holds something else than the export does")
    delivered = manifest.versions
    if redeliver and manifest.undelivered_from is not None:
        delivered = manifest.undelivered_from - 1
    task = progress.add_task("restoring", total=manifest.versions, completed=there)
    acting = 0
    for batch in _batches(path, there, manifest.versions):
        acting += sum(map(_acts, batch))
        await repeated(partial(store.restore, batch, delivered))
        progress.advance(task, len(batch))
    await _verify_store(store, manifest, progress)
    return Moved(manifest, there, manifest.versions - there, acting)


def _acts(version: Version) -> bool:
    """Whether a server would refuse it as a write: a history is restored as it was."""
    if version.body is None or b'"div"' not in version.body:
        return False
    return any(narrative.acting(version.resource(), version.key.resource_type))


def _verify_file(path: Path, manifest: Manifest, there: int, progress: Progress) -> bytes:
    """Whether the file is what its manifest says; the line of the version `there`."""
    chain, last = Chain(), b""
    count = 0
    task = progress.add_task("verifying the file", total=manifest.versions)
    for count, (line, _) in enumerate(itertools.islice(read_lines(path), manifest.versions), 1):
        chain.add(line)
        if count == there:
            last = line
        if count % _VERSIONS == 0:
            progress.update(task, completed=count)
    if count != manifest.versions or chain.digest != manifest.digest:
        raise InvalidResource(f"{path} is not what its manifest says: copy it again")
    progress.remove_task(task)
    return last


async def _verify_store(store: OpenStore, manifest: Manifest, progress: Progress) -> None:
    """Whether the store now gives the digest of the export, byte for byte."""
    chain, after = Chain(), 0
    task = progress.add_task("verifying the store", total=manifest.versions)
    while after < manifest.versions:
        limit = min(_VERSIONS, manifest.versions - after)
        found = await repeated(partial(store.changes, after, limit))
        if not found:
            break
        for version in found:
            chain.add(archive.format_line(version))
        after = found[-1].sequence
        progress.update(task, completed=after)
    if chain.digest != manifest.digest:
        raise VersionConflict(
            "the store does not hold what the export does; begin with an empty one"
        )


def _batches(path: Path, there: int, until: int) -> Iterator[tuple[Version, ...]]:
    batch: list[Version] = []
    size = 0
    for line, _ in itertools.islice(read_lines(path), there, until):
        version = archive.parse_line(line)
        batch.append(version)
        size += len(line)
        if len(batch) >= _VERSIONS or size >= _BYTES:
            yield tuple(batch)
            batch, size = [], 0
    if batch:
        yield tuple(batch)
