"""What a server has of a simulation, asked by FHIR, and the account of its ledger."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from requests.auth import AuthBase
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fhir_server.simulation.account import Balance, Stored, account, balance
from fhir_server.simulation.ledger import read_entries, read_header
from fhir_server.simulation.ward import PATIENTS

_TIMEOUT = (10, 120)
_PAGE = 1_000


def count_quarantined(server: str, auth: AuthBase | None = None) -> dict[str, int]:
    """What waits, by reason."""
    counts: Counter[str] = Counter()
    params = {"_count": "200"}
    with requests.Session() as session:
        session.auth = auth
        while True:
            url = f"{server.rstrip('/')}/readings/quarantine"
            answer = _get(session, url, params)
            counts.update(line["reason"] for line in answer["quarantined"])
            if "next" not in answer:
                return dict(counts)
            params["page"] = answer["next"]


def verify(
    server: str, path: Path, *, alerts: bool, show: Console, auth: AuthBase | None = None
) -> bool:
    """Whether all that the ledger expects is so; says what is not.

    Raises:
        LedgerError: the file is none.
        requests.RequestException: the server does not answer.
    """
    before = Counter(read_header(path)["quarantined"])
    wanted = account(read_entries(path))
    sums = Balance(0, 0, 0, 0, 0, 0)
    with requests.Session() as session:
        session.auth = auth
        people = track(wanted.accepted.items(), "accounting", console=Console(stderr=True))
        for patient, expected in people:
            stored = _stored(session, server, patient, alerts=alerts)
            one = balance(expected, stored, alerts=alerts)
            sums = Balance(*(a + b for a, b in zip(sums, one, strict=True)))
    held = Counter(count_quarantined(server, auth))
    held.subtract(before)
    waiting = {reason: held[reason] for reason in held.keys() | wanted.held.keys()}
    table = Table("of the ledger", "expected", "found", "wrong")
    table.add_row("accepted readings", str(wanted.verdicts["accepted"]), "", "")
    accepted = sum(map(len, wanted.accepted.values()))
    wrong = sums.missing + sums.doubled + sums.unexpected
    table.add_row("– at their patient and time", str(accepted), str(sums.found), str(wrong))
    for verdict in ("duplicate", "ignored"):
        table.add_row(f"{verdict} readings", str(wanted.verdicts[verdict]), "", "")
    for reason in sorted(waiting):
        expected_count, found = wanted.held[reason], waiting[reason]
        difference = abs(expected_count - found)
        table.add_row(f"held back: {reason}", str(expected_count), str(found), str(difference))
    if alerts:
        total = sums.alerts_found + sums.alerts_wrong
        row = (str(total), str(sums.alerts_found), str(sums.alerts_wrong))
        table.add_row("alerts, once each", *row)
    show.print(table)
    for name in ("missing", "doubled", "unexpected"):
        if count := getattr(sums, name):
            show.print(f"{count} {name}", style="red")
    for fault, count in wanted.told_otherwise.items():
        show.print(f"{count} payloads ({fault}) got another verdict than expected", style="red")
    is_held = all(wanted.held[reason] == waiting[reason] for reason in waiting)
    return sums.is_even and is_held and not wanted.told_otherwise


def _stored(
    session: requests.Session, server: str, patient: str, *, alerts: bool
) -> Iterator[Stored]:
    raised: dict[str, Counter[str]] = defaultdict(Counter)
    if alerts:
        for issue in _search(session, server, "DetectedIssue", patient, "code,evidence,status"):
            if issue["status"] == "entered-in-error":
                continue
            for evidence in issue.get("evidence", ()):
                for detail in evidence.get("detail", ()):
                    raised[detail.get("reference", "")].update(_codes(issue))
    for observation in _search(session, server, "Observation", patient, "code,effective"):
        text = observation.get("effectiveDateTime")
        text = text or observation.get("effectivePeriod", {}).get("start")
        if text is not None:
            reference = f"Observation/{observation['id']}"
            instant = datetime.fromisoformat(text).astimezone(UTC)
            yield Stored(reference, frozenset(_codes(observation)), instant, raised[reference])


def _search(
    session: requests.Session, server: str, resource_type: str, patient: str, elements: str
) -> Iterator[dict[str, Any]]:
    params = {
        "patient:Patient.identifier": f"{PATIENTS}|{patient}",
        "_elements": elements,
        "_count": str(_PAGE),
    }
    link = f"{server.rstrip('/')}/fhir/{resource_type}"
    while link:
        bundle = _get(session, link, params)
        for entry in bundle.get("entry", ()):
            yield entry["resource"]
        links = {part["relation"]: part["url"] for part in bundle.get("link", ())}
        link, params = links.get("next", ""), {}


def _codes(resource: dict[str, Any]) -> set[str]:
    return {coding["code"] for coding in resource["code"].get("coding", ())}


def _get(session: requests.Session, url: str, params: dict[str, str]) -> dict[str, Any]:
    response = session.get(url, params=params, timeout=_TIMEOUT)
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer
