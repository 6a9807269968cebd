"""How far each kind of sinks has looked at the commit order: a counter for each."""

from pymongo.synchronous.client_session import ClientSession
from pymongo.synchronous.collection import Collection

from fhir_server.store.mongo.steps import Document, Filter

# Where a kind begins that is not known yet; the prefix of those that are.
BEGIN = "outbox"
ALL: Filter = {"_id": {"$regex": f"^{BEGIN}(:|$)"}}


def read(state: Collection[Document], kind: str, session: ClientSession | None = None) -> int:
    """The sequence up to which `kind` has looked."""
    found = state.find({"_id": {"$in": [BEGIN, _name(kind)]}}, session=session)
    places: dict[str, int] = {each["_id"]: each["position"] for each in found}
    return places.get(_name(kind), places[BEGIN])


def move(state: Collection[Document], kind: str, sequence: int, session: ClientSession) -> None:
    state.update_one(
        {"_id": _name(kind)}, {"$set": {"position": sequence}}, upsert=True, session=session
    )


def _name(kind: str) -> str:
    return f"{BEGIN}:{kind}" if kind else BEGIN
