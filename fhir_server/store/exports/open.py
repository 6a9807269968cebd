"""From a URL to an export store: where the settings name none, the one beside the resources."""

from pathlib import Path
from urllib.parse import urlsplit

from fhir_server.store.exports.folder import FolderExportStore
from fhir_server.store.exports.protocol import ExportStore
from fhir_server.store.open import sqlite_path

_FOLDER = "exports"


def open_export_store(folder: Path | None, store: str) -> ExportStore:
    """Beside the store at the URL `store`; of one in a file, in `folder` if that is given.

    Raises:
        ValueError: no store has this scheme, the URL names no file, or a folder is given
            where processes of several machines need to have it.
    """
    scheme = urlsplit(store).scheme
    if scheme == "sqlite":
        path = sqlite_path(store)
        if folder is None and path is not None:
            folder = path.with_name(_FOLDER)
        return FolderExportStore(folder)
    if scheme in ("mongodb", "mongodb+srv"):
        if folder is not None:
            raise ValueError("exports of a MongoDB store are kept beside it, and in no folder")
        from fhir_server.store.exports.mongo import MongoExportStore

        return MongoExportStore(store)
    raise ValueError(f"no export store is known by the scheme {scheme!r}")
