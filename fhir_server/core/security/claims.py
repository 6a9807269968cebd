"""Claims of tokens whose signature was good: whether they are for us and now, and who they name.

https://www.rfc-editor.org/rfc/rfc7519 https://www.rfc-editor.org/rfc/rfc9068
https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

import json
from collections.abc import Collection, Mapping
from typing import Any, cast

from fhir_server.core.identity import ResourceKey, is_resource_id
from fhir_server.core.security import scope as smart
from fhir_server.core.security.principal import Principal, PrincipalKind
from fhir_server.core.security.registration import parse_key
from fhir_server.errors import Unauthenticated

LEEWAY_SECONDS = 30
"""How far the clock of another server may be from ours."""

_LONGEST_NAME = 256

Claims = Mapping[str, Any]


def parse(content: bytes) -> dict[str, Any]:
    """Raises `Unauthenticated`: they are no claims."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unauthenticated("the token has no claims")
    return found


def check(
    claims: Claims, issuer: str, audiences: Collection[str], now: float, leeway: float = 0
) -> float:
    """When the token ends, in seconds of the epoch.

    Raises:
        Unauthenticated: it is another's, for another, over, not yet valid, or does not say.
    """
    if claims.get("iss") != issuer:
        raise Unauthenticated("the token is of another issuer")
    named = claims.get("aud")
    named = [named] if isinstance(named, str) else named
    if not isinstance(named, list) or not any(
        isinstance(each, str) and each in audiences for each in named
    ):
        raise Unauthenticated("the token is for another server")
    ends = _moment(claims, "exp")
    if ends is None:
        raise Unauthenticated("the token does not say when it ends")
    if now >= ends + leeway:
        raise Unauthenticated("the token is over")
    for name in ("nbf", "iat"):
        begins = _moment(claims, name)
        if begins is not None and now < begins - leeway - (1 if name == "iat" else 0):
            raise Unauthenticated("the token is not valid yet")
    return ends + leeway


def principal_of(claims: Claims, roles: Collection[str] = ()) -> Principal:
    """Whom they name.

    A person is one by `fhirUser`, or by a scope that only persons are given; else it is a
    program. It is a patient's by `fhirUser`; where that is silent, one whose only clinical
    scopes are `patient/` acts for the patient whom its issuer named.

    Raises:
        Unauthenticated: something in them is of the wrong kind.
    """
    scopes = smart.parse_all(_scope_text(claims))
    subject = _text(claims, "sub")
    client_id = _text(claims, "client_id") or _text(claims, "azp")
    fhir_user = parse_key(_text(claims, "fhirUser"))
    patient = _patient(claims)
    if fhir_user is not None and fhir_user.resource_type == "Patient":
        # A patient's own account reaches that patient, whatever else the token says.
        if patient is not None and patient != fhir_user:
            raise Unauthenticated("the token is of one patient and about another")
        patient = fhir_user
    contexts = {each.context for each in scopes}
    kind: PrincipalKind = "system"
    if fhir_user is not None or contexts & {"patient", "user"}:
        acting = patient if fhir_user is None and contexts == {"patient"} else fhir_user
        kind = "patient" if acting is not None and acting.resource_type == "Patient" else "user"
        # What a program may do by itself, nobody may in its name.
        scopes = tuple(each for each in scopes if each.context != "system")
    return Principal(
        kind,
        client_id,
        subject,
        scopes,
        patient,
        fhir_user,
        _texts(claims, "purposes"),
        _text(claims, "jti"),
        frozenset(roles),
    )


def _scope_text(claims: Claims) -> str:
    # RFC 9068 has a text; some servers write a list.
    found = claims.get("scope", claims.get("scp", ""))
    if isinstance(found, list) and all(isinstance(each, str) for each in found):
        return " ".join(found)
    if not isinstance(found, str):
        raise Unauthenticated("the token's scope is no text")
    return found


def _patient(claims: Claims) -> ResourceKey | None:
    text = _text(claims, "patient").removeprefix("Patient/")
    if not text:
        return None
    if not is_resource_id(text):
        raise Unauthenticated("the token's patient is no id")
    return ResourceKey("Patient", text)


def _text(claims: Claims, name: str) -> str:
    value = claims.get(name, "")
    if not isinstance(value, str) or len(value) > _LONGEST_NAME or not value.isprintable():
        raise Unauthenticated(f"the token's {name} is no name")
    return value


def _texts(claims: Claims, name: str) -> tuple[str, ...]:
    value = claims.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Unauthenticated(f"the token's {name} are no names")
    return tuple(cast("list[str]", value))


def _moment(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    # A bool is an int to Python, and NaN is never over.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e11:
        raise Unauthenticated(f"the token's {name} is no moment")
    return float(value)
