"""Principal: who is asking, as their credentials said; what they may see is derived from it."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.security.scope import Scope

PrincipalKind = Literal["system", "user", "patient", "gateway", "anonymous"]


class Intake(NamedTuple):
    """What a gateway may hand in: empty `mappings` or `devices` mean any.

    A device is `system|value`, or `system|` for all of a system. `per_minute` are readings
    (lines of a body), None for as many as come.
    """

    mappings: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()
    per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """One who asks. Credentials made it; nothing in a request can change it.

    `client_id` is the program, `subject` the person or program that the token is about
    (`sub`), `patient` the one patient that `patient/` scopes are limited to, `fhir_user` the
    resource that describes the person. `purposes` are codes of
    http://terminology.hl7.org/CodeSystem/v3-ActReason, for which the data are asked.
    `token_id` names the token (`jti`), or the key of a gateway, for the record; it is not
    the token. `roles` are what the operator gave an account or a client ("operator").
    """

    kind: PrincipalKind
    client_id: str = ""
    subject: str = ""
    scopes: tuple[Scope, ...] = ()
    patient: ResourceKey | None = None
    fhir_user: ResourceKey | None = None
    purposes: tuple[str, ...] = ()
    token_id: str = ""
    roles: frozenset[str] = frozenset()
    intake: Intake | None = None


ANONYMOUS = Principal("anonymous")
"""Nobody is known to be asking: `AUTH=none`, or a path that is open to all."""
