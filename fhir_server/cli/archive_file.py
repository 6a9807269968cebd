"""The file of an export: lines are appended, a torn end is cut off, the manifest comes last.

Gzipped files are many members of whole lines, so that one which was cut short goes on
behind its last whole member. Files hold patients: they are their owner's alone.
"""

import gzip
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from fhir_server.core import archive
from fhir_server.core.archive import Chain, Manifest
from fhir_server.core.version import Version, format_instant
from fhir_server.errors import InvalidResource

_MEMBER = 4 * 1024 * 1024
_CHUNK = 1024 * 1024
_LEVEL = 4
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP = 31
_START = b'{"sequence":1,'
NAME = "versions.ndjson"


def manifest_path(path: Path) -> Path:
    return path.with_name(path.name + ".manifest.json")


def read_manifest(path: Path) -> Manifest:
    """The manifest beside the export at `path`.

    Raises:
        InvalidResource: it is not there, or none of ours.
    """
    try:
        text = manifest_path(path).read_bytes()
    except FileNotFoundError:
        raise InvalidResource(
            f"{path} has no manifest: its export did not end; run it again, it goes on"
        ) from None
    return archive.parse_manifest(text)


def read_lines(path: Path) -> Iterator[tuple[bytes, int]]:
    """Each line without its break, and how far into the file it was read.

    Raises:
        InvalidResource: the file is no whole gzip.
    """
    with path.open("rb") as file:
        is_gzip = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        content: BinaryIO = gzip.GzipFile(fileobj=file) if is_gzip else file  # type: ignore[assignment]
        try:
            for line in content:
                yield line.removesuffix(b"\n"), file.tell()
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise InvalidResource(f"{path} is cut short or damaged") from None


class ArchiveFile:
    """An export that is being written; it begins behind the whole lines that are there.

    `last_line` is the newest of them, `versions` how many they are.
    """

    def __init__(self, path: Path, report: Callable[[int, int], None]) -> None:
        """`report` is told how much of what is there has been read, and of how much.

        Raises:
            InvalidResource: what is there is no export.
            OSError: the file cannot be made, read or cut.
        """
        self._path = path
        self._is_gzip = path.suffix == ".gz"
        self._counts: dict[str, Counter[str]] = {}
        self._last_updated: str | None = None
        self._chain = Chain()
        self._waiting: list[bytes] = []
        self._size = 0
        self.versions = 0
        self.last_line = b""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        try:
            end = self._go_on(report)
            self._file.truncate(end)
            self._file.seek(end)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "ArchiveFile":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, version: Version) -> None:
        """Raises OSError where the disk is full; the next run goes on then."""
        line = archive.format_line(version)
        self._count(version)
        self._note(line)
        self._waiting.append(line + b"\n")
        self._size += len(line) + 1
        if self._size >= _MEMBER:
            self._write()

    def finish(self, undelivered_from: int | None) -> Manifest:
        """Make all durable, and say last what it is."""
        self._write()
        self._file.flush()
        os.fsync(self._file.fileno())
        manifest = Manifest(
            archive.FORMAT,
            archive.FORMAT_VERSION,
            self._path.name,
            self.versions,
            self._chain.digest,
            self._last_updated,
            {name: dict(counts) for name, counts in sorted(self._counts.items())},
            undelivered_from,
        )
        replace_file(manifest_path(self._path), archive.format_manifest(manifest))
        return manifest

    def _write(self) -> None:
        text = b"".join(self._waiting)
        self._waiting, self._size = [], 0
        if text:
            self._file.write(gzip.compress(text, _LEVEL, mtime=0) if self._is_gzip else text)

    def _note(self, line: bytes) -> None:
        self._chain.add(line)
        self.versions += 1
        self.last_line = line

    def _count(self, version: Version) -> None:
        of_type = self._counts.setdefault(version.key.resource_type, Counter())
        of_type[version.interaction] += 1
        self._last_updated = format_instant(version.last_updated)

    def _go_on(self, report: Callable[[int, int], None]) -> int:
        """Read what is there; where its last whole line ends."""
        total = os.fstat(self._file.fileno()).st_size
        end = 0
        for text, end in _whole_parts(self._file, is_gzip=self._is_gzip):
            for line in text.split(b"\n")[:-1]:
                version = archive.parse_line(line)
                if version.sequence != self.versions + 1:
                    raise InvalidResource(f"{self._path} lacks {self.versions + 1} of the order")
                self._count(version)
                self._note(line)
            report(end, total)
        if total and not end and not self._is_torn_start():
            raise InvalidResource(f"{self._path} is there already and is no export")
        return end

    def _is_torn_start(self) -> bool:
        """Whether the file begins as an export does: what follows is then cut off."""
        self._file.seek(0)
        start = self._file.read(4_096)
        if self._is_gzip:
            try:
                start = zlib.decompressobj(_GZIP).decompress(start)
            except zlib.error:
                return False
        start = start[: len(_START)]
        return _START.startswith(start)


def replace_file(path: Path, content: bytes) -> None:
    """Write `path` whole or not at all, durably, for its owner alone."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Make the name of `path` durable."""
    descriptor = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _whole_parts(file: BinaryIO, *, is_gzip: bool) -> Iterator[tuple[bytes, int]]:
    """Text of whole lines, and where in the file it ends; a torn end is left out."""
    return _whole_members(file) if is_gzip else _whole_lines(file)


def _whole_lines(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    end, rest = 0, b""
    while chunk := file.read(_CHUNK):
        text, line_break, torn = chunk.rpartition(b"\n")
        if not line_break:
            rest += chunk
            continue
        text = rest + text + line_break
        end += len(text)
        rest = torn
        yield text, end


def _whole_members(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    end, compressed = 0, b""
    while True:
        inflater = zlib.decompressobj(_GZIP)
        text: list[bytes] = []
        size = 0
        while not inflater.eof:
            if not compressed:
                compressed = file.read(_CHUNK)
                if not compressed:
                    return
            try:
                text.append(inflater.decompress(compressed))
            except zlib.error:
                return
            size += len(compressed) - len(inflater.unused_data)
            compressed = inflater.unused_data
        whole = b"".join(text)
        if not whole.endswith(b"\n"):
            return
        end += size
        yield whole, end
