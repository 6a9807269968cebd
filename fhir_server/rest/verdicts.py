"""The answer to readings: verdicts counted and spooled, whatever their number."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from tempfile import SpooledTemporaryFile

from starlette.responses import Response, StreamingResponse

from fhir_server.core import resource_json
from fhir_server.core.mapping.reading import Verdict
from fhir_server.operations.ingest_readings import ReadingResult

_IN_MEMORY = 1024 * 1024
_BLOCK = 256 * 1024
_JSON = "application/json"


class Verdicts:
    """Results in their order. The counts lead the answer, so it is sent when all is decided."""

    def __init__(self) -> None:
        self._counts: Counter[Verdict] = Counter()
        self._spool = SpooledTemporaryFile[bytes](max_size=_IN_MEMORY)
        self._is_empty = True

    def add(self, results: Iterable[ReadingResult]) -> None:
        results = tuple(results)
        if not results:
            return
        self._counts.update(result.verdict for result in results)
        if not self._is_empty:
            self._spool.write(b",")
        self._spool.write(resource_json.format(results)[1:-1])
        self._is_empty = False

    def close(self) -> None:
        self._spool.close()

    def response(self) -> Response:
        """The answer; it owns what was spooled and closes it."""
        counts = {str(verdict): self._counts[verdict] for verdict in Verdict}
        head = resource_json.format(counts)[:-1] + b',"results":['
        size = self._spool.tell()
        self._spool.seek(0)
        if size <= _IN_MEMORY:
            body = head + self._spool.read() + b"]}"
            self.close()
            return Response(body, media_type=_JSON)
        length = str(len(head) + size + 2)
        return StreamingResponse(
            self._blocks(head), media_type=_JSON, headers={"Content-Length": length}
        )

    async def _blocks(self, head: bytes) -> AsyncIterator[bytes]:
        try:
            yield head
            while block := self._spool.read(_BLOCK):
                yield block
            yield b"]}"
        finally:
            self.close()
