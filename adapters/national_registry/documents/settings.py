"""`[adapters.document-registry]` of the settings file, into a sink and its endpoint."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from adapters.national_registry.documents.client import DocumentClient
from adapters.national_registry.documents.compose import House
from adapters.national_registry.documents.content import Kind
from adapters.national_registry.documents.endpoint import ReadAsync, RegistryEndpoint
from adapters.national_registry.documents.faults import LONGEST_WAIT
from adapters.national_registry.documents.identifiers import ogrn_fault, snils_fault
from adapters.national_registry.documents.parties import Author, Name, Organization
from adapters.national_registry.documents.planning import Policy
from adapters.national_registry.documents.signer import ALGORITHMS, KeyPair, OpensslSigner
from adapters.national_registry.documents.sink import NAME, DocumentRegistrySink, Keys, Patience
from adapters.national_registry.port import CommitAsync, Surroundings
from adapters.national_registry.section import Section
from fhir_server.outbox.endpoint import OutboundPolicy, check_url
from fhir_server.outbox.session import OutboundSession

_KINDS = {"referral": Kind.REFERRAL, "protocol": Kind.PROTOCOL}
_NOTHING: dict[str, Any] = {}
_DAY = 86_400.0


def from_settings(section: Mapping[str, Any], around: Surroundings) -> DocumentRegistrySink:
    """The sink that `[adapters.document-registry]` describes: docs/registry.md has its keys.

    Raises:
        ValueError: a key that is missing, unknown or of the wrong kind, a URL that
            deliveries may not go to, or a file that is not there.
    """
    fields = Section(NAME, section)
    url = fields.text("url")
    outbound = OutboundPolicy(allow_private=around.allow_private_endpoints)
    check_url(url, outbound)
    entity, token = fields.text("client_entity_id"), fields.text("token", "")
    ca_file, timeouts = fields.text("ca_file", "") or None, fields.timeouts()
    fields.text("callback_token", "")
    algorithm = fields.text("signature", ALGORITHMS[0])
    if algorithm not in ALGORITHMS:
        raise ValueError(f"adapters.{NAME}.signature must be one of {', '.join(ALGORITHMS)}")
    signer = OpensslSigner(algorithm, fields.text("openssl", "openssl"))
    is_strict = fields.boolean("strict", default=False)
    house = House(
        _organization(fields.table("organization"), is_strict=is_strict),
        _author(fields.table("author", _NOTHING), is_strict=is_strict),
        is_strict,
        fields.boolean("send_auxiliary", default=False),
        around.time_zone,
    )
    doctors = fields.table("doctors")
    keys = Keys(
        {snils: _key_pair(f"doctors.{snils}", table) for snils, table in doctors.items()},
        _key_pair("organization_key", fields.table("organization_key")),
    )
    policy = Policy(
        _kinds(fields.texts("documents", tuple(_KINDS))),
        fields.count("report_days", 0, least=0),
        around.time_zone,
    )
    patience = Patience(
        timedelta(days=fields.number("no_response_days", 15, 365, "days")),
        fields.number("attend_seconds", 60.0, _DAY, "seconds"),
        fields.number("retry_seconds", LONGEST_WAIT, _DAY, "seconds"),
    )
    fields.check_all_known()
    session = OutboundSession(outbound, timeouts, ca_file=ca_file)
    client = DocumentClient(session, url, entity, token)
    return DocumentRegistrySink(client, signer, keys, house, policy, patience, around)


def endpoint(section: Mapping[str, Any], read: ReadAsync, commit: CommitAsync) -> RegistryEndpoint:
    """What the registry calls.

    Raises:
        ValueError: `callback_token` is no text, `retry_seconds` no number.
    """
    token = section.get("callback_token", "")
    if not isinstance(token, str):
        raise ValueError(f"adapters.{NAME}.callback_token must be a text")
    wait = Section(NAME, section).number("retry_seconds", LONGEST_WAIT, _DAY, "seconds")
    return RegistryEndpoint(read, commit, token, wait)


def _organization(table: Mapping[str, Any], *, is_strict: bool) -> Organization:
    fields = Section(f"{NAME}.organization", table)
    found = Organization(
        fields.text("oid"), fields.text("name"), fields.text("ogrn", ""), fields.text("address", "")
    )
    fields.check_all_known()
    wrong = ogrn_fault(found.ogrn) if found.ogrn else None
    if wrong and is_strict:
        raise ValueError(f"adapters.{NAME}.organization.ogrn: {wrong}")
    return found


def _author(table: Mapping[str, Any], *, is_strict: bool) -> Author | None:
    if not table:
        return None
    fields = Section(f"{NAME}.author", table)
    name = Name(fields.text("family"), fields.text("given"), fields.text("patronymic", ""))
    position = (fields.text("position_code", ""), fields.text("position", ""))
    found = Author(fields.text("local_id"), fields.text("snils"), name, position)
    fields.check_all_known()
    wrong = snils_fault(found.snils)
    if wrong and is_strict:
        raise ValueError(f"adapters.{NAME}.author.snils: {wrong}")
    return found


def _key_pair(name: str, table: Any) -> KeyPair:
    if not isinstance(table, Mapping):
        raise ValueError(f"adapters.{NAME}.{name} must be a table")
    fields = Section(f"{NAME}.{name}", table)
    password = fields.text("password_file", "")
    pair = KeyPair(
        Path(fields.text("certificate")),
        Path(fields.text("key")),
        Path(password) if password else None,
    )
    fields.check_all_known()
    for path in filter(None, pair):
        if not path.is_file():
            raise ValueError(f"adapters.{NAME}.{name}: there is no file {path}")
    return pair


def _kinds(names: tuple[str, ...]) -> frozenset[Kind]:
    unknown = sorted(set(names) - set(_KINDS))
    if unknown or not names:
        raise ValueError(f"adapters.{NAME}.documents may name {' and '.join(_KINDS)}")
    return frozenset(_KINDS[name] for name in names)
