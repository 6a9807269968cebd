"""A document as CDA R2: the header with its people; `cda_body.py` has the sections.

http://www.hl7.org/implement/standards/product_brief.cfm?product_id=7. The national rules
add `identity` for the insurance policy and their own code books by OID.
"""

import xml.etree.ElementTree as ET
from datetime import datetime

from adapters.national_registry.documents import cda_body
from adapters.national_registry.documents.content import Content
from adapters.national_registry.documents.parties import Author, Name, Organization
from adapters.national_registry.documents.xml_tree import Element, add, write

SNILS = "1.2.643.100.3"
OGRN = "1.2.643.100.1"
DOCUMENT_KINDS = "1.2.643.5.1.13.13.11.1520"
SEX = "1.2.643.5.1.13.13.11.1040"
POSITIONS = "1.2.643.5.1.13.13.11.1002"
POLICY_KINDS = "1.2.643.5.1.13.13.11.1035"

_NAMESPACES = {
    "xmlns": "urn:hl7-org:v3",
    "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
    "xmlns:identity": "urn:hl7-ru:identity",
}


def compose(content: Content) -> bytes:
    """The document; the same content gives the same bytes."""
    root = ET.Element("ClinicalDocument", _NAMESPACES)
    oid = content.organization.oid
    add(root, "realmCode", {"code": "RU"})
    add(root, "typeId", {"root": "2.16.840.1.113883.1.3", "extension": "POCD_HD000040"})
    add(root, "templateId", {"root": content.kind.guide})
    add(root, "id", {"root": f"{oid}.100.1.1.51", "extension": content.local_uid})
    add(
        root,
        "code",
        {
            "code": content.kind.value,
            "codeSystem": DOCUMENT_KINDS,
            "codeSystemName": "Виды медицинской документации",
            "displayName": content.kind.heading,
        },
    )
    add(root, "title", text=content.kind.heading)
    add(root, "effectiveTime", {"value": _time(content.created)})
    add(root, "confidentialityCode", {"code": "N", "codeSystem": "2.16.840.1.113883.5.25"})
    add(root, "languageCode", {"code": "ru-RU"})
    add(root, "setId", {"root": f"{oid}.100.1.1.50", "extension": content.set_id})
    add(root, "versionNumber", {"value": str(content.number)})
    _record_target(root, content)
    _author(root, content)
    custodian = add(add(root, "custodian"), "assignedCustodian")
    _organization(custodian, "representedCustodianOrganization", content.organization)
    _legal_authenticator(root, content)
    _service_event(root, content)
    if content.replaces:
        related = add(root, "relatedDocument", {"typeCode": "RPLC"})
        parent = add(related, "parentDocument")
        add(parent, "id", {"root": f"{oid}.100.1.1.51", "extension": content.replaces})
    cda_body.add_body(root, content)
    return write(root)


def _record_target(root: Element, content: Content) -> None:
    patient = content.patient
    role = add(add(root, "recordTarget"), "patientRole")
    add(
        role,
        "id",
        {"root": f"{content.organization.oid}.100.1.1.10", "extension": patient.local_id},
    )
    add(role, "id", {"root": SNILS, "extension": patient.snils})
    if patient.policy:
        policy = add(role, "identity:InsurancePolicy")
        add(
            policy,
            "identity:InsurancePolicyType",
            {
                "xsi:type": "CD",
                "code": "1",
                "codeSystem": POLICY_KINDS,
                "codeSystemName": "Виды полиса обязательного медицинского страхования",
                "displayName": "Полис ОМС единого образца",
            },
        )
        add(policy, "identity:Number", {"xsi:type": "ST"}, patient.policy)
    else:
        add(role, "identity:InsurancePolicy", {"nullFlavor": "NI"})
    person = add(role, "patient")
    _name(person, patient.name)
    code, word = patient.sex
    add(
        person,
        "administrativeGenderCode",
        {"code": code, "codeSystem": SEX, "codeSystemName": "Пол пациента", "displayName": word},
    )
    add(person, "birthTime", {"value": patient.birth_date.replace("-", "")})
    _organization(role, "providerOrganization", content.organization)


def _author(root: Element, content: Content) -> None:
    author = add(root, "author")
    add(author, "time", {"value": _time(content.created)})
    assigned = add(author, "assignedAuthor")
    _assigned(assigned, content.author, content.organization, "assignedPerson")
    _organization(assigned, "representedOrganization", content.organization)


def _legal_authenticator(root: Element, content: Content) -> None:
    authenticator = add(root, "legalAuthenticator")
    add(authenticator, "time", {"value": _time(content.created)})
    add(authenticator, "signatureCode", {"code": "S"})
    entity = add(authenticator, "assignedEntity")
    _assigned(entity, content.author, content.organization, "assignedPerson")
    _organization(entity, "representedOrganization", content.organization)


def _assigned(parent: Element, author: Author, organization: Organization, person: str) -> None:
    add(parent, "id", {"root": f"{organization.oid}.100.1.1.70", "extension": author.local_id})
    add(parent, "id", {"root": SNILS, "extension": author.snils})
    code, word = author.position
    if code:
        add(parent, "code", {"code": code, "codeSystem": POSITIONS, "displayName": word})
    _name(add(parent, person), author.name)


def _service_event(root: Element, content: Content) -> None:
    event = add(add(root, "documentationOf"), "serviceEvent")
    period = add(event, "effectiveTime")
    add(period, "low", {"value": content.first.strftime("%Y%m%d")})
    if content.last is None:
        add(period, "high", {"nullFlavor": "NI"})
    else:
        add(period, "high", {"value": content.last.strftime("%Y%m%d")})


def _organization(parent: Element, tag: str, organization: Organization) -> None:
    element = add(parent, tag)
    add(element, "id", {"root": organization.oid})
    if organization.ogrn:
        add(element, "id", {"root": OGRN, "extension": organization.ogrn})
    add(element, "name", text=organization.name)
    if organization.address:
        add(add(element, "addr"), "streetAddressLine", text=organization.address)


def _name(parent: Element, name: Name) -> None:
    element = add(parent, "name")
    add(element, "family", text=name.family)
    add(element, "given", text=name.given)
    if name.patronymic:
        add(element, "identity:Patronymic", {"xsi:type": "ST"}, name.patronymic)


def _time(when: datetime) -> str:
    return when.strftime("%Y%m%d%H%M%z")
