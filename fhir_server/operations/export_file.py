"""One file of an export while it is written: lines in, portions of gzip out. Blocking."""

import zlib
from collections.abc import Sequence

from fhir_server.core.bulk.job import ExportFile, FileKind
from fhir_server.store.exports.protocol import ExportStore

_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 4
_PORTION = 1024 * 1024


class ExportWriter:
    """Keeps no more than a portion in memory."""

    def __init__(self, store: ExportStore, job: str, name: str) -> None:
        self._store = store
        self._job = job
        self._name = name
        self._stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._waiting = bytearray()
        self._portions = 0
        self._size = 0
        self.length = 0
        self.count = 0

    def write(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            self._waiting += self._stream.compress(line)
            self.length += len(line)
            self._append(_PORTION)
        self.count += len(lines)

    def finish(self, kind: FileKind, resource_type: str, mark: str) -> ExportFile:
        """The file, whole and durable."""
        self._waiting += self._stream.flush()
        self._append(1)
        self._store.finish(self._job, self._name)
        return ExportFile(
            self._name, kind, resource_type, self.count, self._size, self.length, mark
        )

    def drop(self) -> None:
        self._store.drop(self._job, self._name)

    def _append(self, least: int) -> None:
        while len(self._waiting) >= least:
            portion = bytes(self._waiting[:_PORTION])
            del self._waiting[:_PORTION]
            self._store.append(self._job, self._name, self._portions, portion)
            self._portions += 1
            self._size += len(portion)
