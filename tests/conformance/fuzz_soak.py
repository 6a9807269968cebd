"""A million fuzzed requests, `python -m tests.conformance.fuzz_soak`: what the server said to
each, how long it took, and what the process kept of it.

Every block of 20 requests follows from the seed and its number: a finding says both, and
`--only` sends that block again. It ends with 1 if there was a finding.
"""

import argparse
import http.client
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.conformance import fuzz_requests
from tests.conformance.fuzz_callers import PATIENT, READING, Caller, Callers, aim
from tests.conformance.server_process import Process
from tests.provision import mongod

BLOCK = 20
_ASCII = "".join(map(chr, range(33, 127)))


class Finding(NamedTuple):
    block: int
    number: int
    what: str
    wish: Any
    said: str


class Soak:
    """`lanes` connections that send blocks until `blocks` are done."""

    def __init__(self, port: int, seed: int, callers: list[Caller], seconds: float) -> None:
        self.port = port
        self.seed = seed
        self.callers = callers
        self.seconds = seconds
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.taken: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
        self.findings: list[Finding] = []
        self.sent = 0
        self._lock = threading.Lock()

    def run(self, blocks: range, lanes: int) -> None:
        pending = iter(blocks)

        def work() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
            with closing(connection):
                while True:
                    with self._lock:
                        block = next(pending, None)
                    if block is None:
                        return
                    self._send_block(connection, block)

        threads = [threading.Thread(target=work) for _ in range(lanes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _send_block(self, connection: http.client.HTTPConnection, block: int) -> None:
        chance = random.Random(f"{self.seed}/{block}")
        for number in range(BLOCK):
            wish = fuzz_requests.make(chance)
            caller = chance.choice(self.callers) if self.callers else None
            if caller is not None:
                wish = aim(chance, wish)
                wish.headers["Authorization"] = f"Bearer {caller.token()}"
            begun = time.monotonic()
            try:
                connection.request(
                    wish.method, quote(wish.path, safe=_ASCII), wish.body, wish.headers
                )
                answer = connection.getresponse()
                body = answer.read()
                status, kind = answer.status, answer.headers.get_content_type()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                status, kind, body = 0, "", repr(error).encode()
            taken = time.monotonic() - begun
            what = self._judge(wish, caller, status, kind, body, taken)
            shape = f"{wish.method} {shape_of(wish.path)}"
            with self._lock:
                self.sent += 1
                self.statuses[caller.name if caller else "anyone", status] += 1
                count, total, most = self.taken[shape]
                self.taken[shape] = [count + 1, total + taken, max(most, taken)]
                if what:
                    wish.headers.pop("Authorization", None)
                    text = body[:2_000].decode("utf-8", "replace")
                    name = f"{what}, asked by {caller.name}" if caller else what
                    self.findings.append(Finding(block, number, name, wish, text))
                    _say(f"FINDING: seed {self.seed}, block {block}, number {number}: {name}")
                    _say(f"  {wish}\n  {text}")

    def _judge(
        self, wish: Any, caller: Caller | None, status: int, kind: str, body: bytes, taken: float
    ) -> str:
        if status == 0 or (status >= 500 and status != 503):
            return f"status {status}"
        if b"the log knows it as" in body:
            return "a failure within a Bundle"
        if taken > self.seconds:
            return f"{taken:.1f} s"
        if caller is not None:
            for word in {PATIENT, READING} - caller.may_see:
                if word.encode() in body:
                    return "a leak"
            if not caller.is_known and status not in (401, 400) and not _is_open(wish):
                return f"status {status} without a token"
        if wish.path.startswith("/fhir") and status >= 400 and wish.method != "HEAD":
            if kind not in ("application/fhir+json", "application/fhir+xml"):
                return f"{status} as {kind}"
            if kind.endswith("json") and b'"OperationOutcome"' not in body:
                return f"{status} without an OperationOutcome"
        return ""


def shape_of(path: str) -> str:
    """Its route, near enough: types and ids are left out, operations stay."""
    parts = path.partition("?")[0].split("/")
    return "/".join(parts[:2]) + "".join(f"/{_named(part)}" for part in parts[2:])


def _named(part: str) -> str:
    if part in ("$", "") or part.startswith(("$", "_")) or part == "metadata":
        return part
    return "{type}" if re.fullmatch("[A-Z][A-Za-z]+", part) else "{id}"


def _is_open(wish: Any) -> bool:
    path = wish.path.partition("?")[0]
    return path in ("/health/live", "/metrics", "/openapi.json", "/docs", "/fhir/metadata")


def resident_megabytes(process_id: int) -> float:
    status = Path(f"/proc/{process_id}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def watch(soak: Soak, process_id: int, out: Path, over: threading.Event, every: float) -> None:
    begun = time.monotonic()
    with out.open("a") as file:
        while True:
            megabytes = resident_megabytes(process_id)
            seconds = time.monotonic() - begun
            line = f"{seconds:8.0f} s {soak.sent:9d} requests {megabytes:8.1f} MB"
            file.write(f"{line}\n")
            file.flush()
            if over.wait(every):
                return


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def report(soak: Soak) -> None:
    _say(f"{soak.sent} requests, seed {soak.seed}, {len(soak.findings)} findings")
    by_caller: dict[str, Counter[int]] = defaultdict(Counter)
    for (name, status), count in sorted(soak.statuses.items()):
        by_caller[name][status] = count
    for name, statuses in by_caller.items():
        _say(f"{name:>10} " + " ".join(f"{s}:{c}" for s, c in statuses.items()))
    _say("slowest: most s, mean ms, requests, route")
    slowest = sorted(soak.taken.items(), key=lambda each: -each[1][2])
    for shape, (count, total, most) in slowest[:25]:
        _say(f"{most:8.2f} {1_000 * total / count:8.1f} {count:8d}  {shape}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="send this block alone, as --seed has it")
    parser.add_argument("--mongo", action="store_true", help="on MongoDB instead of SQLite")
    parser.add_argument("--auth", action="store_true", help="secured, with ten who ask")
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="what takes longer is found")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between looks at memory")
    parser.add_argument("--megabytes", type=float, default=600.0, help="what it may grow by")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz-memory.txt"))
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = f"sqlite:///{folder}/fhir.db"
        if given.mongo:
            store = stack.enter_context(mongod.node(folder)).url("fuzz")
        settings = {"STORE": store, "AUTH": "smart" if given.auth else "none"}
        variables = {f"FHIR_SERVER_{name}": value for name, value in settings.items()}
        server = stack.enter_context(Process(folder, **variables))
        callers = Callers(server.url, store).all if given.auth else []
        soak = Soak(server.port, given.seed, callers, given.seconds)
        over = threading.Event()
        number = -(-given.requests // BLOCK)
        blocks = range(number) if given.only is None else range(given.only, given.only + 1)
        looks = (soak, server.process.pid, given.out, over, given.every)
        watching = threading.Thread(target=watch, args=looks)
        watching.start()
        # Its caches fill first.
        warm = blocks[: max(1, number // 20)]
        soak.run(warm, given.lanes)
        before = resident_megabytes(server.process.pid)
        soak.run(blocks[len(warm) :], given.lanes)
        over.set()
        watching.join()
        grown = resident_megabytes(server.process.pid) - before
        report(soak)
        _say(f"grew by {grown:.0f} MB from {before:.0f}")
        failures = [line for line in server.log.read_text().splitlines() if "[error " in line]
        _say(f"{len(failures)} errors in the server's log")
    return int(bool(soak.findings or failures or grown > given.megabytes))


if __name__ == "__main__":
    sys.exit(main())
