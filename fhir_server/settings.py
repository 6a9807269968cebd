"""Environment and TOML file into one frozen Settings, read once at start-up.

The environment wins over the file named by `FHIR_SERVER_CONFIG`.
"""

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from fhir_server.core.security.audit_chain import ChainKeys
from fhir_server.rest.connection import ConnectionLimits
from fhir_server.rest.fair_share import ClientLimits

CONFIG_VARIABLE = "FHIR_SERVER_CONFIG"

FolderList = Annotated[tuple[Path, ...], NoDecode]


class MqttTopic(BaseModel):
    """A topic, whole levels of which may be `{device}` and the like, and its payloads' mapping."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: str
    mapping: str = ""
    device_system: str = ""


class MqttSettings(BaseModel):
    """Where `fhir-server listen` listens; `docs/mqtt.md`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    broker: str = ""
    topics: tuple[MqttTopic, ...] = ()
    client_id: str = ""
    share: str = ""
    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    session_days: float = Field(default=30.0, gt=0, le=10_000)
    receive_maximum: int = Field(default=1_000, ge=1, le=65_535)
    max_payload_bytes: int = Field(default=1024 * 1024, gt=0)
    batch: int = Field(default=500, ge=1)
    linger_ms: float = Field(default=20.0, ge=0, le=10_000)


class IssuerSettings(BaseModel):
    """Another authorization server, whose tokens are taken; `docs/security.md`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = ""
    audience: str = ""
    keys_url: str = ""
    token_url: str = ""
    authorize_url: str = ""
    introspection_url: str = ""
    client_id: str = ""


class Settings(BaseSettings):
    """What the operator decides; `docs/settings.md` describes each for users."""

    model_config = SettingsConfigDict(env_prefix="FHIR_SERVER_", frozen=True, extra="ignore")

    store: str = "sqlite:///./data/fhir.db"
    base_url: str = ""
    auth: Literal["smart", "none"] = "smart"
    security_store: str = ""
    issuer: IssuerSettings = IssuerSettings()
    issuer_secret: str = Field(default="", repr=False)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    allow_insecure: bool = False
    audit: Literal["on", "off", ""] = ""
    audit_key: str = Field(default="", repr=False)
    audit_keys: dict[str, str] = Field(default_factory=dict, repr=False)
    pseudonyms: Path = Path("data/pseudonyms.db")
    pseudonym_key: str = Field(default="", repr=False)
    depersonalized: bool = False
    deidentification: dict[str, dict[str, Any]] = Field(default_factory=dict)
    time_zone: str = "Europe/Moscow"
    validation: Literal["strict", "warn"] = "strict"
    unknown_profiles: Literal["warn", "refuse", "ignore"] = "warn"
    max_body_bytes: int = Field(default=16 * 1024 * 1024, gt=0)
    max_bundle_entries: int = Field(default=5_000, gt=0)
    max_page_size: int = Field(default=1_000, gt=0)
    max_answer_bytes: int = Field(default=64 * 1024 * 1024, gt=0)
    conditional_delete: Literal["single", "multiple"] = "single"
    mappings: FolderList = ()
    profiles: FolderList = ()
    terminology: FolderList = ()
    terminology_server: str = ""
    terminology_server_keep_seconds: float = Field(default=3_600.0, ge=0)
    adapters: dict[str, dict[str, Any]] = Field(default_factory=dict)
    allow_private_endpoints: bool = False
    page_key: str = Field(default="", repr=False)
    concurrent_requests: int = Field(default=256, ge=1)
    client_requests_per_minute: int = Field(default=0, ge=0)
    max_connections: int = Field(default=2_000, ge=1)
    max_connections_per_address: int = Field(default=500, ge=1)
    slow_seconds: float = Field(default=20.0, gt=0, le=600)
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    consent_defaults: dict[str, Literal["permit", "deny"]] = Field(
        default={
            "TREAT": "permit", "ETREAT": "permit", "BTG": "permit", "HOPERAT": "permit",
            "PUBHLTH": "permit", "HPAYMT": "deny", "HRESCH": "deny",
        }
    )  # fmt: skip
    export_folder: Path | None = None
    export_hours: float = Field(default=24.0, gt=0, le=10_000)
    exports_per_client: int = Field(default=10, ge=1)
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    deliver: bool = True
    monitoring: bool = True
    plan_templates: bool = True
    alert_escalation_minutes: float = Field(default=30.0, ge=0)
    placing_seconds: float = Field(default=2.0, ge=0)
    views_seconds: float = Field(default=600.0, ge=0)
    subscription_patience_days: float = Field(default=7.0, gt=0, le=3_650)
    mqtt: MqttSettings = MqttSettings()
    mqtt_password: str = Field(default="", repr=False)
    drain_seconds: float = Field(default=1.0, ge=0, le=60)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"

    @property
    def is_audited(self) -> bool:
        """Whether accesses are recorded: by default wherever it is known who asks."""
        return self.audit == "on" or (not self.audit and self.auth != "none")

    @property
    def chain_keys(self) -> ChainKeys:
        """What the audit trail is chained with."""
        keys = {name: text.encode() for name, text in self.audit_keys.items()}
        return ChainKeys({"": self.audit_key.encode(), **keys})

    @field_validator("audit_keys")
    @classmethod
    def _check_key_ids(cls, value: dict[str, str]) -> dict[str, str]:
        for name, key in value.items():
            if re.fullmatch(r"[A-Za-z0-9_-]{1,32}", name) is None or not key:
                raise ValueError("each key has an id of letters, digits, - and _, and is not empty")
        return value

    @field_validator("mappings", "profiles", "terminology", mode="before")
    @classmethod
    def _split_folders(cls, value: object) -> object:
        return value.split(os.pathsep) if isinstance(value, str) and value else value or ()

    @field_validator("trusted_proxies", "cors_origins", mode="before")
    @classmethod
    def _split_addresses(cls, value: object) -> object:
        return value.split(",") if isinstance(value, str) and value else value or ()

    @field_validator("trusted_proxies")
    @classmethod
    def _check_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            ipaddress.ip_network(address.strip(), strict=False)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        origins = tuple(origin.strip().rstrip("/") for origin in value)
        for origin in origins:
            parts = urlsplit(origin)
            is_whole = bool(parts.hostname) and origin == f"{parts.scheme}://{parts.netloc}"
            if origin != "*" and not is_whole:
                raise ValueError("an origin is scheme://host:port, or * for any")
        return origins

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, value: str) -> str:
        ZoneInfo(value)
        return value

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an absolute URL is needed: https://host/fhir")
        if "?" in value or "#" in value or any(c.isspace() for c in value):
            raise ValueError("the base of links has no query, fragment or space")
        return value.rstrip("/")

    @field_validator("terminology_server")
    @classmethod
    def _check_terminology_server(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("the base URL of a FHIR server is needed: https://host/fhir")
        return value.rstrip("/")

    def edge_limits(self) -> tuple[ClientLimits, ConnectionLimits]:
        """What one client may do, and what connections may."""
        return (
            ClientLimits(
                at_once=self.concurrent_requests,
                per_minute=self.client_requests_per_minute,
                trusted_proxies=self.trusted_proxies,
            ),
            ConnectionLimits(
                self.max_connections,
                self.max_connections_per_address,
                self.slow_seconds,
                self.trusted_proxies,
            ),
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the TOML file; nothing else."""
        path = os.environ.get(CONFIG_VARIABLE)
        file = (TomlConfigSettingsSource(settings_cls, Path(path)),) if path else ()
        return (init_settings, env_settings, *file)


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(settings: Settings, host: str) -> None:
    """Refuse to serve patients' data to a network without knowing who asks.

    Raises:
        ValueError: `AUTH=none` on an address other machines can reach, or tokens that nothing
            says whom they are for.
    """
    is_own = settings.auth == "smart" and not settings.issuer.url
    if is_own and not is_loopback(host) and not settings.base_url:
        raise ValueError(
            f"FHIR_SERVER_BASE_URL is needed on {host}: clients prove who they are to that address"
        )
    if settings.issuer.url and not (settings.issuer.audience or settings.base_url):
        raise ValueError("FHIR_SERVER_ISSUER.audience is needed, or FHIR_SERVER_BASE_URL")
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise ValueError("FHIR_SERVER_TLS_CERTIFICATE and FHIR_SERVER_TLS_KEY: both or neither")
    if settings.tls_client_ca is not None and settings.tls_certificate is None:
        raise ValueError("FHIR_SERVER_TLS_CLIENT_CA needs FHIR_SERVER_TLS_CERTIFICATE")
    if settings.auth == "none" and not is_loopback(host) and not settings.allow_insecure:
        raise ValueError(
            f"AUTH=none is refused on {host}: anyone there could read every patient. "
            "Serve 127.0.0.1 behind a proxy that checks access, "
            "or set FHIR_SERVER_ALLOW_INSECURE=1 to accept this."
        )
