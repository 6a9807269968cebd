"""`fhir-server readings`: send payload files to a server, look at what it held back.

Sending again is safe: what was stored is a duplicate. So an interrupted run is resumed
by running it once more.
"""

import gzip
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import requests
import typer
from requests.auth import AuthBase
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fhir_server.cli.server_access import (
    AccessError,
    ClientIdOption,
    ClientKeyOption,
    TokenOption,
    access_to,
)
from fhir_server.core.mapping.reading import Verdict

app = typer.Typer(help="Device readings: send them, and try again what was held back.")

_TIMEOUT = (10, 300)
_TRIES = 6
_LONGEST_WAIT = 30.0
_PORTION_LINES = 2_000
_PORTION_BYTES = 4 * 1024 * 1024
_SHOWN = 20
_LINES = (".ndjson", ".jsonl")

_out = Console()
_err = Console(stderr=True)

Server = Annotated[
    str, typer.Option(envvar="FHIR_SERVER_URL", help="Where the server is, without /fhir.")
]


class Portion(NamedTuple):
    """What one request sends; `offset` is the number of its first line, `end` bytes in."""

    body: bytes
    is_lines: bool
    offset: int
    end: int


class SendError(Exception):
    """The server did not take it; the message is for the person who sent it."""


@app.command()
def send(
    files: Annotated[
        list[Path], typer.Argument(help="JSON, NDJSON, or either gzipped.", exists=True)
    ],
    mapping: Annotated[str, typer.Option(help="The mapping that reads the payloads.")],
    server: Server = "http://127.0.0.1:8080",
    device: Annotated[str, typer.Option(help="system|value, if the payload is silent.")] = "",
    patient: Annotated[str, typer.Option(help="system|value, if the payload is silent.")] = "",
    token: TokenOption = "",
    client_id: ClientIdOption = "",
    client_key: ClientKeyOption = None,
) -> None:
    """Send payload files and report the verdicts."""
    access = _access(server, token, client_id, client_key)
    url = f"{server.rstrip('/')}/readings/{mapping}"
    params = {k: v for k, v in (("device", device), ("patient", patient)) if v}
    counts: Counter[str] = Counter()
    noticed: list[tuple[str, dict[str, Any]]] = []
    failed = False
    with requests.Session() as session, _progress() as progress:
        session.auth = access
        for path in files:
            task = progress.add_task(path.name, total=path.stat().st_size)
            try:
                for portion in _portions(path):
                    answer = _post(session, url, params, portion)
                    counts.update({str(verdict): answer[verdict] for verdict in Verdict})
                    for result in answer["results"]:
                        if result["verdict"] in (Verdict.CONFLICT, Verdict.QUARANTINED):
                            line = f"{path}:{portion.offset + result['index'] + 1}"
                            noticed.append((line, result))
                    del noticed[_SHOWN + 1 :]
                    progress.update(task, completed=portion.end)
            except (SendError, OSError, EOFError) as error:
                _err.print(f"{path}: {error}", style="red", markup=False)
                failed = True
    _report(counts, noticed)
    if failed:
        _err.print("not everything was sent; run it again: what was stored is not stored twice")
        raise typer.Exit(1)


@app.command("quarantine")
def show_quarantine(
    server: Server = "http://127.0.0.1:8080",
    reprocess: Annotated[bool, typer.Option("--reprocess", help="Try all of it again.")] = False,
    reason: Annotated[str, typer.Option(help="Only what was held back for this.")] = "",
    device: Annotated[str, typer.Option(help="Only of this device: system|value, or value.")] = "",
    before: Annotated[str, typer.Option(help="Only what came before this date.")] = "",
    token: TokenOption = "",
    client_id: ClientIdOption = "",
    client_key: ClientKeyOption = None,
) -> None:
    """Show what was held back and why, oldest first; with --reprocess, try it again."""
    base = f"{server.rstrip('/')}/readings/quarantine"
    wanted = {"reason": reason, "device": device, "before": before}
    params = {"_count": "200", **{name: value for name, value in wanted.items() if value}}
    try:
        with requests.Session() as session:
            session.auth = _access(server, token, client_id, client_key)
            if reprocess:
                _reprocess(session, base, params)
            else:
                _list(session, base, params)
    except SendError as error:
        _err.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from None


def _access(server: str, token: str, client_id: str, client_key: Path | None) -> AuthBase | None:
    try:
        return access_to(server, token, client_id, client_key)
    except ValueError as error:
        _err.print(f"fhir-server: {error}", style="red", markup=False)
        raise typer.Exit(2) from None


def _list(session: requests.Session, base: str, params: dict[str, str]) -> None:
    reasons: Counter[str] = Counter()
    for answer in _pages(session, "GET", base, params):
        for line in answer["quarantined"]:
            reasons[line["reason"]] += 1
            if reasons.total() <= _SHOWN:
                names = ("quarantine", "received", "mapping", "device", "reason", "detail")
                _print_whole("  ".join(str(line.get(name, "")) for name in names))
    if not reasons:
        _out.print("nothing waits in quarantine")
        return
    if reasons.total() > _SHOWN:
        _out.print(f"… and {reasons.total() - _SHOWN} more")
    for reason, count in reasons.most_common():
        _out.print(f"{count:>7}  {reason}", markup=False)


def _reprocess(session: requests.Session, base: str, params: dict[str, str]) -> None:
    counts: Counter[str] = Counter()
    noticed: list[tuple[str, dict[str, Any]]] = []
    with _err.status("trying again …") as status:
        for answer in _pages(session, "POST", f"{base}/reprocess", params):
            for result in answer["results"]:
                counts[result["verdict"]] += 1
                if result["verdict"] in (Verdict.CONFLICT, Verdict.QUARANTINED):
                    noticed.append((result["quarantine"], result))
            del noticed[_SHOWN + 1 :]
            status.update(f"{counts.total()} tried again …")
    _report(counts, noticed)


def _pages(
    session: requests.Session, method: str, url: str, params: dict[str, str]
) -> Iterator[dict[str, Any]]:
    page: dict[str, str] = {}
    while True:
        answer = _request(session, method, url, {**params, **page})
        yield answer
        if "next" not in answer:
            return
        page = {"page": answer["next"]}


def _post(
    session: requests.Session, url: str, params: dict[str, str], portion: Portion
) -> dict[str, Any]:
    content_type = "application/x-ndjson" if portion.is_lines else "application/json"
    headers = {"Content-Type": content_type, "Content-Encoding": "gzip"}
    return _request(session, "POST", url, params, gzip.compress(portion.body, 4), headers)


def _request(
    session: requests.Session,
    method: str,
    url: str,
    params: dict[str, str],
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The answer; what may pass is waited out, for it is safe to ask again.

    Raises:
        SendError: the server refused, or stayed away.
    """
    reason = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(min(2.0**attempt / 2, _LONGEST_WAIT))
        try:
            response = session.request(
                method, url, params=params, data=body, headers=headers, timeout=_TIMEOUT
            )
        except AccessError as error:
            raise SendError(str(error)) from None
        except requests.ConnectionError:
            reason = f"no connection to {url}"
            continue
        except requests.RequestException as error:
            reason = type(error).__name__
            continue
        if response.status_code == 200:
            answer: dict[str, Any] = response.json()
            return answer
        reason = f"{response.status_code} {_diagnostics(response)}"
        if response.status_code not in (429, 503):
            break
    raise SendError(reason)


def _diagnostics(response: requests.Response) -> str:
    try:
        return "; ".join(str(issue["diagnostics"]) for issue in response.json()["issue"])
    except (ValueError, KeyError, TypeError):
        return response.reason


def _portions(path: Path) -> Iterator[Portion]:
    """The file in pieces that are sent one by one; `end` is how far into the file each is."""
    names = [suffix.lower() for suffix in path.suffixes]
    is_gzip = names[-1:] == [".gz"]
    is_lines = any(name in _LINES for name in names)
    with path.open("rb") as file:
        content: Iterable[bytes] = gzip.GzipFile(fileobj=file) if is_gzip else file
        if not is_lines:
            yield Portion(b"".join(content), False, 0, path.stat().st_size)
            return
        lines: list[bytes] = []
        size = first = number = 0
        for number, line in enumerate(content, start=1):
            lines.append(line)
            size += len(line)
            if len(lines) >= _PORTION_LINES or size >= _PORTION_BYTES:
                yield Portion(b"".join(lines), True, first, file.tell())
                lines, size, first = [], 0, number
        if lines:
            yield Portion(b"".join(lines), True, first, file.tell())


def _report(counts: Counter[str], noticed: list[tuple[str, dict[str, Any]]]) -> None:
    table = Table("verdict", "readings")
    for verdict in Verdict:
        table.add_row(str(verdict), str(counts[verdict]))
    for other in counts.keys() - {str(verdict) for verdict in Verdict}:
        table.add_row(escape(other), str(counts[other]))
    _out.print(table)
    for place, result in noticed[:_SHOWN]:
        words = (result["verdict"], result.get("reason", ""), result.get("detail", ""))
        _print_whole(f"{place}: {' '.join(word for word in words if word)}")
    if len(noticed) > _SHOWN:
        _out.print("… and more: fhir-server readings quarantine")


def _print_whole(line: str) -> None:
    """On one line however narrow the terminal: names of resources and files are copied."""
    _out.print(line, markup=False, highlight=False, soft_wrap=True)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=_err,
    )
