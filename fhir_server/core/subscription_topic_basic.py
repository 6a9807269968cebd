"""SubscriptionTopics as R4 can hold them: a Basic with the elements of R5 as extensions.

https://hl7.org/fhir/uv/xver-r5.r4/StructureDefinition-profile-SubscriptionTopic.html
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fhir_server.core.resource_json import Resource

RESOURCE_TYPE = "Basic"
CODE_SYSTEM, CODE = "http://hl7.org/fhir/fhir-types", "SubscriptionTopic"

_ARTIFACT = "http://hl7.org/fhir/StructureDefinition/artifact-"
_CROSS_VERSION = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionTopic."
_LISTS = frozenset(
    {"resourceTrigger", "eventTrigger", "canFilterBy", "notificationShape",
     "supportedInteraction", "comparator", "modifier"}
)  # fmt: skip


def may_be_topic(body: bytes) -> bool:
    """A quick look at the text: any number of Basics may be something else."""
    return b"SubscriptionTopic" in body


def is_topic(resource: Resource) -> bool:
    """Whether it says that it is one."""
    if resource.get("resourceType") != RESOURCE_TYPE:
        return False
    codings = (resource.get("code") or {}).get("coding") or ()
    return any(
        coding.get("code") == CODE and coding.get("system") == CODE_SYSTEM for coding in codings
    )


def to_topic(resource: Resource) -> Resource:
    """The SubscriptionTopic in the shape of R5; what is no part of one is left out."""
    found: Resource = {"resourceType": CODE}
    for name, value in _elements(resource.get("extension", ()), (_ARTIFACT, _CROSS_VERSION)):
        _add(found, name, value)
    return found


def _elements(
    extensions: Iterable[Mapping[str, Any]], prefixes: tuple[str, ...]
) -> Iterable[tuple[str, Any]]:
    for extension in extensions:
        for prefix in prefixes:
            url = extension["url"]
            if not url.startswith(prefix):
                continue
            if "extension" in extension:
                inner: dict[str, Any] = {}
                for name, value in _elements(extension["extension"], ("",)):
                    _add(inner, name, value)
                yield url.removeprefix(prefix), inner
            else:
                values = (value for name, value in extension.items() if name.startswith("value"))
                yield url.removeprefix(prefix), next(values, None)
            break


def _add(found: dict[str, Any], name: str, value: Any) -> None:
    if name in _LISTS:
        found.setdefault(name, []).append(value)
    else:
        found[name] = value
