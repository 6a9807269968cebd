"""Who is registered here: clients, accounts and gateways, and how each is written down.

A registration's `generation` goes up when its credentials are changed or taken away: what
was given out in an earlier one is void.
"""

import re
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from fhir_server.core.identity import ResourceKey, is_resource_id
from fhir_server.core.security.principal import Intake

Document = dict[str, Any]
R = TypeVar("R", "Client", "Account", "Gateway")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]{0,62}[A-Za-z0-9]|[A-Za-z0-9]", re.ASCII)


def check_name(name: str) -> str:
    """Raises `ValueError`: it could not stand in a URL, a key and a log line alike."""
    if _NAME.fullmatch(name) is None:
        raise ValueError("a name is of letters, digits, - and _; up to 64 of them")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A program. `jwks` or `jwks_url` are its public keys, `secret` the hash of a shared one;
    without either it is public: an app that cannot keep a secret, and has to prove itself with
    PKCE. `scopes` is the most it may ask for. With `redirect_uris` people sign in to it.
    """

    client_id: str
    title: str = ""
    scopes: str = ""
    jwks: Document | None = None
    jwks_url: str = ""
    secret: str = ""
    redirect_uris: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    is_active: bool = True
    generation: int = 1

    @property
    def is_public(self) -> bool:
        return not (self.jwks or self.jwks_url or self.secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A person who signs in. `fhir_user` (``Practitioner/1``, ``Patient/2``) is who they are,
    `scopes` the most that any app may do in their name.
    """

    name: str
    password: str = field(repr=False)
    fhir_user: str = ""
    scopes: str = ""
    roles: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    is_active: bool = True
    generation: int = 1

    @property
    def patient(self) -> ResourceKey | None:
        """Of a patient's own account."""
        key = parse_key(self.fhir_user)
        return key if key is not None and key.resource_type == "Patient" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What hands in readings. `keys` are hashes with the moment each ends, 0 for never."""

    name: str
    keys: tuple[tuple[str, int], ...] = field(default=(), repr=False)
    mappings: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    per_minute: int | None = None
    is_active: bool = True
    generation: int = 1

    @property
    def intake(self) -> Intake:
        return Intake(frozenset(self.mappings), frozenset(self.devices), self.per_minute)


def parse_key(text: str) -> ResourceKey | None:
    """`Practitioner/1`, or the end of a URL that ends so."""
    resource_type, _, resource_id = "/".join(text.split("/")[-2:]).partition("/")
    if not resource_type.isascii() or not resource_type.isalpha() or not resource_type[0].isupper():
        return None
    return ResourceKey(resource_type, resource_id) if is_resource_id(resource_id) else None


def name_of(registration: Client | Account | Gateway) -> str:
    """Its own among those of its kind."""
    return registration.client_id if isinstance(registration, Client) else registration.name


def to_document(registration: Client | Account | Gateway) -> Document:
    """As JSON has it."""
    return {each.name: getattr(registration, each.name) for each in fields(registration)}


def from_document(kind: type[R], document: Document) -> R:
    """What a later release added is left out."""
    known = {each.name for each in fields(kind)}
    return kind(**{name: _frozen(v) for name, v in document.items() if name in known})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value
