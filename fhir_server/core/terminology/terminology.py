"""Terminology: the code systems, value sets and concept maps that can be asked about.

It is a value: what is shipped is in it from the start, what is stored on the server is added
when a question turns out to need it (`NotLoaded`).
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fhir_server.core import resource_json
from fhir_server.core.quantity import UCUM
from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology import ucum, value_set
from fhir_server.core.terminology.code_system import AnyCodeSystem, CodeSystem
from fhir_server.core.terminology.value_set import Codes, Selection, compile_value_set
from fhir_server.errors import InvalidSearch

_DEEPEST = 20
_GRAMMARS: Mapping[str, AnyCodeSystem] = {UCUM: ucum.UnitCodes()}
_WHOLE = "?fhir_vs"
_BELOW = "?fhir_vs=isa/"

Name = tuple[str, str]
"""A resource type and a URL, bare or ``url|version``."""


class NotLoaded(InvalidSearch):
    """A definition that may be stored on this server has not been looked for yet.

    `url` is canonical, or a reference such as ``ValueSet/42``.
    """

    def __init__(self, diagnostics: str, resource_type: str = "", url: str = "") -> None:
        super().__init__(diagnostics)
        self.resource_type = resource_type
        self.url = url


class Unknown(InvalidSearch):
    """No definition of that URL is known here."""

    code = "not-found"


class Membership(NamedTuple):
    """Whether a code belongs to a value set; None: that cannot be told here."""

    is_member: bool | None
    system: AnyCodeSystem | None


class Terminology:
    """Definitions by their URLs. `absent` are those that were looked for in vain."""

    def __init__(
        self, resources: Iterable[Resource] = (), packed: Mapping[Name, bytes] | None = None
    ) -> None:
        """`packed` are definitions as JSON, read when they are asked for."""
        self._packed = packed or {}
        self._code_systems: dict[str, CodeSystem] = {}
        self._resources: dict[Name, Resource] = {}
        self._absent: frozenset[Name] = frozenset()
        for resource in resources:
            self._keep(resource, resource.get("url") or "")

    def having(self, not_loaded: NotLoaded, found: "Resource | CodeSystem | None") -> "Terminology":
        """The same with what `not_loaded` asked for; None: there is none."""
        other = self._copy()
        if found is None:
            other._absent |= {(not_loaded.resource_type, not_loaded.url)}
        elif isinstance(found, CodeSystem):
            other._code_systems[not_loaded.url] = found
        else:
            other._keep(found, not_loaded.url)
        return other

    def knowing(self, resource: Resource, url: str) -> "Terminology":
        """The same with a definition that came along with a question, before any other."""
        other = self._copy()
        other._keep(resource, url)
        return other

    def codes(self, url: str) -> Codes:
        """The codes of a value set, for a search.

        Raises:
            NotLoaded: a definition is needed that has to be looked for first.
            InvalidSearch: there is no such set, or its codes cannot be told.
        """
        return value_set.gather(self.selection(url))

    def selection(self, url: str) -> Selection:
        """What belongs to a value set. Raises as `codes`."""
        return self._selection(url, ())

    def membership(self, url: str, system: str, code: str) -> Membership:
        """Whether a code belongs to the value set at `url`. Raises as `codes`."""
        return Membership(self.selection(url).holds(system, code), self.find(system))

    def below(self, system: str, code: str) -> frozenset[str]:
        """`code` and what it subsumes. Raises as `codes`."""
        return self._known(system, code).below(code)

    def above(self, system: str, code: str) -> frozenset[str]:
        """`code` and what subsumes it. Raises as `codes`."""
        return self._known(system, code).above(code)

    def find(self, system: str, version: str | None = None) -> AnyCodeSystem | None:
        """What is known of a code system.

        Raises:
            NotLoaded: it has to be looked for first.
        """
        if system in _GRAMMARS and version is None:
            return _GRAMMARS[system]
        url = f"{system}|{version}" if version else system
        known = self._code_systems.get(url)
        if known is None:
            packed = self._packed.get(("CodeSystem", url))
            if packed is None:
                self._miss("CodeSystem", url)
                return None
            known = self._code_systems[url] = CodeSystem(resource_json.parse_resource(packed))
        return known

    def resource(self, resource_type: str, url: str) -> Resource:
        """The ValueSet or ConceptMap of that URL.

        Raises:
            NotLoaded: it has to be looked for first.
            Unknown: there is none.
        """
        name = (resource_type, url)
        known = self._resources.get(name)
        if known is None:
            packed = self._packed.get(name)
            if packed is None:
                implied = _implied(url) if resource_type == "ValueSet" else None
                if implied is not None:
                    return implied
                self._miss(resource_type, url)
                raise Unknown(f"there is no {resource_type} of that URL here")
            known = self._resources[name] = resource_json.parse_resource(packed)
        return known

    @property
    def concepts(self) -> int:
        """How many concepts it holds, read from resources."""
        # A copy first: another thread may read a packed one meanwhile.
        held = tuple(self._code_systems.values())
        return sum(len(each) for each in {id(s): s for s in held}.values())

    @property
    def looked_up(self) -> int:
        """How many names were asked for so far, found or not."""
        return len(self._code_systems) + len(self._resources) + len(self._absent)

    def names(self, resource_type: str) -> list[str]:
        """The canonical URLs of the definitions of a type that are in it, in order."""
        return [url for url, _ in self.versions(resource_type)]

    def versions(self, resource_type: str) -> list[tuple[str, str | None]]:
        """As `names`, with a version of each that has one."""
        found = {url for kind, url in (*self._packed, *self._resources) if kind == resource_type}
        if resource_type == "CodeSystem":
            found.update(self._code_systems, _GRAMMARS)
        versions: dict[str, str | None] = {}
        for name in sorted(found):
            url, _, version = name.partition("|")
            versions[url] = version or versions.get(url)
        return sorted(versions.items())

    def _copy(self) -> "Terminology":
        other = Terminology(packed=self._packed)
        other._code_systems = dict(self._code_systems)
        other._resources = dict(self._resources)
        other._absent = self._absent
        return other

    def _keep(self, resource: Resource, url: str) -> None:
        version = resource.get("version")
        urls = (url, f"{url}|{version}") if version and "|" not in url else (url,)
        if resource["resourceType"] == "CodeSystem":
            code_system = CodeSystem(resource)
            self._code_systems.update(dict.fromkeys(urls, code_system))
        else:
            self._resources.update({(resource["resourceType"], each): resource for each in urls})

    def _selection(self, url: str, within: tuple[str, ...]) -> Selection:
        if url in within or len(within) >= _DEEPEST:
            raise InvalidSearch("the value set is made of itself")
        return compile_value_set(
            self.resource("ValueSet", url),
            self.find,
            lambda other: self._selection(other, (*within, url)),
        )

    def _known(self, system: str, code: str) -> AnyCodeSystem:
        known = self.find(system)
        if known is None:
            raise Unknown("nothing is known here of that code system")
        if known.find(code) is None:
            raise InvalidSearch("that code is not known here")
        return known

    def _miss(self, resource_type: str, url: str) -> None:
        if (resource_type, url) not in self._absent:
            text = f"there is no {resource_type} of that URL here"
            raise NotLoaded(text, resource_type, url)


def _implied(url: str) -> Resource | None:
    """The value sets that a code system has without saying so: all of it, or what is below."""
    if url == f"{UCUM}/vs":
        return _of_system(UCUM)
    system, found, top = url.partition(_BELOW)
    if found and top:
        return _of_system(system, {"filter": [{"property": "concept", "op": "is-a", "value": top}]})
    return _of_system(url.removesuffix(_WHOLE)) if url.endswith(_WHOLE) else None


def _of_system(system: str, more: Mapping[str, object] | None = None) -> Resource:
    include = {"system": system, **(more or {})}
    return {"resourceType": "ValueSet", "status": "active", "compose": {"include": [include]}}


NOTHING_KNOWN = Terminology()
