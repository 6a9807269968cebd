"""What the registry is told of a Patient, and whether a change of one is to be told.

A Patient is created together with the first of its measurements. A later change of what the
registry has of it (a name that was misspelt, a policy that was added) is sent on its own.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

from fhir_server.core.resource_json import Resource

SNILS_SYSTEM = "https://fhir.ru/ig/core/systems/snils"
POLICY_SYSTEM = "https://fhir.ru/ig/core/systems/oms"

# What the registry needs to know whose it is; the rest of a Patient stays here.
_ELEMENTS = ("name", "gender", "birthDate")


class Token(NamedTuple):
    """An identifier as a search criterion takes it."""

    system: str
    value: str

    def criterion(self) -> str:
        """`identifier=system|value`, escaped for a search and for a URL."""
        system, value = (re.sub(r"([\\,|$])", r"\\\1", part) for part in self)
        return "identifier=" + quote(f"{system}|{value}", safe=":/|")


class OutwardPatient(NamedTuple):
    """The Patient that the registry gets; `token` is what it is known by there."""

    token: Token
    resource: Resource


def tokens(resource: Resource) -> Iterator[Token]:
    identifiers = resource.get("identifier") or []
    # Some types have one identifier, not a list of them.
    for identifier in identifiers if isinstance(identifiers, list) else [identifiers]:
        if identifier.get("value"):
            yield Token(identifier.get("system", ""), identifier["value"])


def outward(patient: Resource, systems: tuple[str, ...]) -> OutwardPatient | None:
    """None for a Patient without an identifier that the registry could know.

    Args:
        patient: as it is stored here.
        systems: identifiers that the registry knows, the best first.
    """
    known = list(tokens(patient))
    of_system = {token.system: token for token in reversed(known)}
    best = [of_system[each] for each in systems if each in of_system]
    best = best or [token for token in known if token.system][:1]
    if not best:
        return None
    resource: Resource = {
        "resourceType": "Patient",
        "identifier": [token._asdict() for token in best],
    }
    resource |= {name: patient[name] for name in _ELEMENTS if name in patient}
    return OutwardPatient(best[0], resource)


def changed(
    previous: Resource | None, current: Resource | None, systems: tuple[str, ...]
) -> OutwardPatient | None:
    """What to tell of a change; None if the registry need not know of it.

    `token` is the one that the registry knew the Patient by before. A Patient that is new,
    or was deleted here, is not told: what was reported of it stays.
    """
    if previous is None or current is None:
        return None
    before, now = outward(previous, systems), outward(current, systems)
    if before is None or now is None or before.resource == now.resource:
        return None
    return OutwardPatient(before.token, now.resource)
