"""`fhir-server listen` with a real broker: killed, restarted, cut off; nothing lost or doubled."""

import os
import re
import sqlite3
from collections import Counter
from urllib.parse import unquote

import pytest
import requests
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fhir_server.core.security import audit_record, audit_sheet
from tests import ended
from tests.conformance.conftest import Server
from tests.faults.kit import SCALE, wait_until
from tests.faults.mqtt_kit import (
    PASSWORD,
    USER,
    Broker,
    Listening,
    Publisher,
    certificates,
    mosquitto,
    pulses,
)
from tests.faults.test_ingest_kill import enrol

COUNT = int(400 * SCALE)
TOPIC = ("--topic", "devices/+/readings", "--mapping", "iot-hub")


@pytest.fixture
def server(tmp_path):
    """What is stored is asked of a server in this process: only listeners are killed."""
    store = f"sqlite:///{tmp_path / 'fhir.db'}"
    with Server(store=store, plan_templates=False) as server:
        server.store = store
        for number in range(3):
            enrol(server.url, number)
        yield server


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def listening(tmp_path, server):
    """Starts listeners and ends them."""
    started = []

    def start(*arguments, **more):
        listener = Listening(tmp_path, server.store, *arguments, **more)
        started.append(listener)
        return listener.start()

    yield start
    for listener in started:
        if listener.process.poll() is None:
            listener.kill()


def stored(server):
    """How often each pulse is stored, by device and time."""
    counts = Counter()
    link = f"{server.url}/fhir/Observation?code=8867-4&_count=1000&_elements=effective,device"
    while link:
        bundle = requests.get(link, timeout=30).json()
        for entry in bundle.get("entry", ()):
            resource = entry["resource"]
            counts[resource["device"]["reference"], resource["effectiveDateTime"]] += 1
        links = {part["relation"]: part["url"] for part in bundle["link"]}
        link = links.get("next")
    return counts


def count_stored(server):
    url = f"{server.url}/fhir/Observation?code=8867-4&_summary=count"
    return requests.get(url, timeout=30).json()["total"]


def quarantined(server):
    lines = requests.get(f"{server.url}/readings/quarantine", timeout=30).json()["quarantined"]
    return [(line["mapping"], line["reason"]) for line in lines]


def metric(listener, name):
    text = requests.get(f"http://127.0.0.1:{listener.metrics_port}/metrics", timeout=5).text
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])


def acknowledged(listener):
    return metric(listener, 'fhir_server_mqtt_messages_total{state="acknowledged"}')


def assert_all_once(server, count, devices=("device-0",)):
    found = stored(server)
    assert set(found.values()) == {1}
    assert len(found) == count * len(devices)
    code, said = ended.run("check-store", "--store", server.store)
    assert code == 0, said


def test_a_killed_listener_and_a_restarted_broker_lose_and_double_nothing(
    server, broker, listening
):
    arguments = ("--broker", broker.url, *TOPIC)
    listener = listening(*arguments)
    listener.wait_until_connected()
    publisher = Publisher(broker.port)
    messages = list(pulses("device-0", 2 * COUNT))
    for place in range(0, 2 * COUNT, COUNT // 4):
        publisher.publish(messages[place : place + COUNT // 4])
        if place == COUNT // 4 or place == COUNT:
            # Whatever was decided but not acknowledged comes again.
            listener.kill()
            listener.start()
        if place == COUNT // 2:
            broker.stop()
            broker.start()
    # A gateway that does not trust its own memory sends again.
    publisher.publish(messages[: COUNT // 4])
    publisher.close()
    wait_until(lambda: count_stored(server) >= 2 * COUNT)
    assert listener.stop() == 0, listener.said()
    assert_all_once(server, 2 * COUNT)


def test_what_is_sent_while_nobody_listens_waits_at_the_broker(server, broker, listening):
    listener = listening("--broker", broker.url, *TOPIC)
    listener.wait_until_connected()
    assert listener.stop() == 0
    publisher = Publisher(broker.port)
    publisher.publish(pulses("device-0", 20))
    publisher.close()
    broker.stop()
    broker.start()

    listener.start()

    wait_until(lambda: count_stored(server) == 20)


def test_while_the_store_is_away_nothing_is_acknowledged_and_then_all_is_stored(
    server, broker, listening
):
    listener = listening("--broker", broker.url, *TOPIC)
    listener.wait_until_connected()
    publisher = Publisher(broker.port)
    publisher.publish(pulses("device-0", 5))
    wait_until(lambda: acknowledged(listener) == 5)
    path = unquote(server.store.removeprefix("sqlite:///"))
    holding = sqlite3.connect(path, isolation_level=None)
    holding.execute("BEGIN IMMEDIATE")
    try:
        publisher.publish(pulses("device-0", 30, start=5))
        wait_until(lambda: metric(listener, "fhir_server_mqtt_retries_total") >= 1)
        assert acknowledged(listener) == 5
    finally:
        holding.rollback()
        holding.close()
    wait_until(lambda: acknowledged(listener) == 35, 30)
    publisher.close()
    assert_all_once(server, 35)


def test_a_broken_payload_is_held_back_once_and_stops_nothing(server, broker, listening):
    listener = listening("--broker", broker.url, *TOPIC)
    listener.wait_until_connected()
    publisher = Publisher(broker.port)
    publisher.publish([("devices/device-0/readings", '{"type": "Heart')])
    publisher.publish([("devices/device-0/readings", b"\xff\x00" + b"x" * 2_000_000)])
    publisher.publish(pulses("device-0", 1))
    wait_until(lambda: acknowledged(listener) == 3)
    publisher.close()

    assert quarantined(server) == [("iot-hub", "malformed-payload")] * 2
    assert count_stored(server) == 1


def test_a_topic_names_mapping_and_device_and_a_property_wins(server, broker, listening):
    listener = listening("--broker", broker.url, "--topic", "in/{mapping}/{device}")
    listener.wait_until_connected()
    publisher = Publisher(broker.port)
    record = '{"HP": 120, "LP": 80, "HR": %d, "MDate": %d, "TimeZone": "+0300"}'
    cuff = f'{{"BPUnit": 0, "BPDataList": [{record}]}}'
    publisher.publish([("in/ihealth/device-1", cuff % (61, 1704182400))])
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = [("device", "https://maker.example/serial|device-2")]
    publisher.publish([("in/ihealth/device-1", cuff % (62, 1704182500))], properties)
    publisher.publish([("in/no-such-thing/device-1", "{}")])
    wait_until(lambda: acknowledged(listener) == 3)
    publisher.close()

    assert {device for device, _ in stored(server)} == {"Device/device-1", "Device/device-2"}
    assert quarantined(server) == [("no-such-thing", "mapping-broken")]


def test_what_is_stored_is_on_the_patients_access_list(server, broker, tmp_path, listening):
    listener = listening("--broker", broker.url, *TOPIC, audit="on")
    listener.wait_until_connected()
    publisher = Publisher(broker.port)
    publisher.publish(pulses("device-0", 5))
    publisher.close()
    wait_until(lambda: count_stored(server) == 5)
    connection = sqlite3.connect(tmp_path / "fhir.db")
    texts = [text for (text,) in connection.execute("SELECT text FROM trail")]
    connection.close()
    records = [record for text in texts for record in audit_sheet.parse(text)]
    assert {record.request for record in records} == {"MQTT /readings/iot-hub"}
    assert {audit_record.patients(record) for record in records} == {("Patient/patient-0",)}
    kept = {what for record in records for each in record.touched for what in each.what}
    assert len([what for what in kept if what.startswith("Observation/")]) == 5


def test_listeners_share_a_subscription(server, broker, listening):
    arguments = ("--broker", broker.url, *TOPIC, "--share", "clinic")
    listeners = [listening(*arguments, name=f"listener-{number}") for number in range(2)]
    for listener in listeners:
        wait_until(lambda listener=listener: "connected to" in listener.said(), 30)
    publisher = Publisher(broker.port)
    publisher.publish(pulses("device-0", 60))
    publisher.close()
    wait_until(lambda: sum(map(acknowledged, listeners)) == 60)

    assert all(acknowledged(listener) > 0 for listener in listeners)
    assert_all_once(server, 60)


def test_a_second_listener_of_one_name_is_noticed(server, broker, listening):
    first, _second = (listening("--broker", broker.url, *TOPIC) for _ in range(2))

    wait_until(lambda: "another listener" in first.said())


def test_certificates_and_a_password_are_asked_for_and_never_told(server, tmp_path, listening):
    folder = tmp_path / "tls"
    folder.mkdir()
    certificates(folder)
    passwords = folder / "passwords"
    command = [mosquitto("mosquitto_passwd"), "-b", "-c", str(passwords), USER, PASSWORD]
    assert os.spawnv(os.P_WAIT, command[0], command) == 0
    broker = Broker(
        folder,
        [
            "allow_anonymous false",
            f"password_file {passwords}",
            f"cafile {folder}/ca.pem",
            f"certfile {folder}/broker.pem",
            f"keyfile {folder}/broker.key",
            "require_certificate true",
        ],
    )
    broker.start()
    url = f"mqtts://{USER}@127.0.0.1:{broker.port}"
    trusted = ("--ca-file", folder / "ca.pem")
    ours = ("--certificate", folder / "client.pem", "--key", folder / "client.key")
    try:
        wrong = listening("--broker", url, *TOPIC, *trusted, *ours, mqtt_password="wrong", name="a")
        assert wrong.process.wait(20) == 1
        assert "refused the connection" in wrong.said()
        unknown = listening("--broker", url, *TOPIC, *trusted, mqtt_password=PASSWORD, name="b")
        doubting = listening("--broker", url, *TOPIC, *ours, mqtt_password=PASSWORD, name="c")
        wait_until(lambda: "no connection to" in doubting.said())
        right = listening("--broker", url, *TOPIC, *trusted, *ours, mqtt_password=PASSWORD)
        right.wait_until_connected()

        def configure(client):
            client.username_pw_set(USER, PASSWORD)
            client.tls_set(*(str(folder / name) for name in ("ca.pem", "client.pem", "client.key")))

        publisher = Publisher(broker.port, configure)
        publisher.publish(pulses("device-0", 3))
        publisher.close()
        wait_until(lambda: count_stored(server) == 3)
        for listener in (wrong, unknown, doubting, right):
            assert PASSWORD not in listener.said()
            if listener is not right:
                assert "connected to" not in listener.said().replace("not connected to", "")
    finally:
        broker.stop()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--broker", "mqtt://u:p@127.0.0.1", *TOPIC), "FHIR_SERVER_MQTT_PASSWORD"),
        (("--broker", "mqtt://broker.example", *TOPIC), "mqtts://"),
        (("--broker", "mqtt://127.0.0.1", "--topic", "a/+x", "--mapping", "cgm"), "whole levels"),
        (("--broker", "mqtt://127.0.0.1", "--topic", "a"), "--mapping"),
    ],
)
def test_what_cannot_work_is_said_in_one_line_at_the_start(tmp_path, arguments, said):
    store = f"sqlite:///{tmp_path / 'fhir.db'}"
    code, told = ended.run("listen", *arguments, "--store", store)
    assert (code, told.count("\n")) == (2, 1), told
    assert said in told


def test_a_mapping_that_is_not_there_is_said_in_one_line_at_the_start(tmp_path):
    arguments = ("--broker", "mqtt://127.0.0.1", "--topic", "a", "--mapping", "none")
    listener = Listening(tmp_path, f"sqlite:///{tmp_path / 'fhir.db'}", *arguments).start()
    assert listener.process.wait(60) == 2
    assert "called none" in listener.said()
    assert listener.said().count("\n") == 1


def test_a_broker_that_is_away_at_the_start_is_waited_for(server, tmp_path, listening):
    broker = Broker(tmp_path)
    listener = listening("--broker", broker.url, *TOPIC)
    wait_until(lambda: "no connection to" in listener.said())
    broker.start()
    try:
        listener.wait_until_connected()
    finally:
        broker.stop()
