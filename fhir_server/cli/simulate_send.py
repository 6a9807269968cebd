"""How a simulation sends: by HTTP as a gateway does, or through a broker."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import local
from types import TracebackType
from typing import Any, Protocol, Self

import requests
from paho.mqtt.client import Client, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from requests.auth import AuthBase

from fhir_server.intake.broker import Certificates, parse_broker
from fhir_server.simulation.expectation import Sending
from fhir_server.simulation.ledger import Said

_TIMEOUT = (10, 300)
_TRIES = 8
_LINES = 200
_IN_FLIGHT = 200
_MOST_WAITING = 1_000

Told = tuple[Sending, tuple[Said, ...] | None]


class Door(Protocol):
    """Where payloads go."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def send(self, sendings: Sequence[Sending]) -> Iterator[Told]:
        """Each with what was said of it, when it was taken; those of a device in order."""
        ...


def enrol(server: str, order: dict[str, Any], auth: AuthBase | None = None) -> None:
    """Raises `requests.HTTPError`: it was refused."""
    url = f"{server.rstrip('/')}/enrolments/device-kit"
    requests.post(url, json=order, timeout=_TIMEOUT, auth=auth).raise_for_status()


class ServerDoor:
    """NDJSON by several connections; what is not answered is sent again."""

    def __init__(self, server: str, connections: int, auth: AuthBase | None = None) -> None:
        self._auth = auth
        self._url = f"{server.rstrip('/')}/readings"
        self._pool = ThreadPoolExecutor(connections)
        self._kept = local()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def send(self, sendings: Sequence[Sending]) -> Iterator[Told]:
        for told in self._pool.map(self._send_portions, _lanes(sendings)):
            yield from told

    def _send_portions(self, lane: Sequence[Sequence[Sending]]) -> list[Told]:
        return [told for portion in lane for told in self._send(portion)]

    def _send(self, portion: Sequence[Sending]) -> list[Told]:
        first = portion[0]
        headers = {"Content-Type": "application/x-ndjson"}
        if first.sent:
            headers["X-Gateway-Time"] = first.sent
        params = {"device": first.device} if first.device else {}
        body = b"\n".join(sending.body for sending in portion)
        answer = self._post(f"{self._url}/{first.mapping}", params, headers, body)
        said: list[list[Said]] = [[] for _ in portion]
        for result in answer["results"]:
            said[result["index"]].append((result["verdict"], result.get("reason", "")))
        return [(sending, tuple(each)) for sending, each in zip(portion, said, strict=True)]

    def _post(
        self, url: str, params: dict[str, str], headers: dict[str, str], body: bytes
    ) -> dict[str, Any]:
        if not hasattr(self._kept, "session"):
            self._kept.session = requests.Session()
            self._kept.session.auth = self._auth
        for attempt in range(_TRIES):
            is_last = attempt == _TRIES - 1
            try:
                response = self._kept.session.post(
                    url, params=params, headers=headers, data=body, timeout=_TIMEOUT
                )
            except requests.ConnectionError:
                if is_last:
                    raise
            else:
                if response.status_code not in (429, 503) or is_last:
                    response.raise_for_status()
                    answer: dict[str, Any] = response.json()
                    return answer
            time.sleep(0.5 * 2**attempt)
        raise AssertionError("the last try returns or raises")


def _lanes(sendings: Sequence[Sending]) -> Iterator[list[list[Sending]]]:
    """Portions for one request each; all of a device's are in one lane, in their order."""
    gateways: dict[tuple[str, str], dict[str, list[Sending]]] = {}
    for sending in sendings:
        # What names its device in the payload may travel with others'.
        devices = gateways.setdefault((sending.mapping, sending.device), {})
        devices.setdefault(sending.serial, []).append(sending)
    for devices in gateways.values():
        lane: list[list[Sending]] = []
        for of_device in devices.values():
            for sending in of_device:
                if not lane or lane[-1][-1].sent != sending.sent or len(lane[-1]) >= _LINES:
                    lane.append([])
                lane[-1].append(sending)
            if len(lane[-1]) >= _LINES / 2:
                yield lane
                lane = []
        if lane:
            yield lane


class BrokerDoor:
    """MQTT with QoS 1; what a listener decides is not told, so the account asks the server."""

    def __init__(self, url: str, topic: str) -> None:
        password = os.environ.get("FHIR_SERVER_MQTT_PASSWORD", "")
        self._broker = parse_broker(url, password, Certificates())
        self._topic = topic
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.max_inflight_messages_set(_IN_FLIGHT)
        if self._broker.user:
            self._client.username_pw_set(self._broker.user, password or None)
        if self._broker.tls is not None:
            self._client.tls_set_context(self._broker.tls)

    def __enter__(self) -> Self:
        self._client.connect(self._broker.host, self._broker.port)
        self._client.loop_start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, sendings: Sequence[Sending]) -> Iterator[Told]:
        waiting: list[tuple[Sending, MQTTMessageInfo]] = []
        for sending in sendings:
            waiting.append((sending, self._publish(sending)))
            if len(waiting) >= _MOST_WAITING:
                yield from self._taken(waiting)
                waiting = []
        yield from self._taken(waiting)

    def _publish(self, sending: Sending) -> MQTTMessageInfo:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        said = (("device", sending.device), ("gateway-time", sending.sent))
        if named := [(name, value) for name, value in said if value]:
            properties.UserProperty = named
        topic = self._topic.replace("{mapping}", sending.mapping)
        topic = topic.replace("{device}", sending.serial)
        return self._client.publish(topic, sending.body, qos=1, properties=properties)

    @staticmethod
    def _taken(waiting: Iterable[tuple[Sending, MQTTMessageInfo]]) -> Iterator[Told]:
        for sending, info in waiting:
            info.wait_for_publish(_TIMEOUT[1])
            if not info.is_published():
                raise OSError("the broker did not take a message")
            yield sending, None
