"""The server is killed while it answers: every answer that was given has its record."""

import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import requests

from fhir_server.core.security import audit_sheet
from tests.faults.kit import SCALE, Server, running

CLIENTS = 6
KILLS = max(2, int(2 * SCALE))


class Client:
    """Reads, searches, writes and asks for what is not there; `answered` are the request ids."""

    def __init__(self, server, name):
        self.server = server
        self.name = name
        self.answered = []

    def run(self, stopped):
        http = requests.Session()
        number = 0
        while not stopped.is_set():
            number += 1
            request_id = f"{self.name}-{number}"
            try:
                answer = self.ask(http, number, {"X-Request-Id": request_id})
            except requests.RequestException:
                time.sleep(0.02)
                continue
            if answer.status_code < 500:
                self.answered.append(request_id)

    def ask(self, http, number, headers):
        base = f"{self.server.url}/fhir"
        if number % 4 == 0:
            body = {"resourceType": "Patient", "id": self.name, "active": number % 8 == 0}
            return http.put(f"{base}/Patient/{self.name}", json=body, headers=headers, timeout=10)
        path = (f"Patient/{self.name}", "Patient?_count=2", "Patient/nobody")[number % 3]
        return http.get(f"{base}/{path}", headers=headers, timeout=10)


def test_every_answer_that_was_given_is_on_record_after_a_kill(tmp_path):
    server = Server(tmp_path, audit="on", auth="none")
    clients = [Client(server, f"client-{number}") for number in range(CLIENTS)]
    stopped = threading.Event()
    rng = random.Random(7)
    with running(server), ThreadPoolExecutor(CLIENTS) as pool:
        work = [pool.submit(client.run, stopped) for client in clients]
        try:
            for _ in range(KILLS):
                time.sleep(rng.uniform(0.5, 1.0))
                server.kill()
                server.start()
        finally:
            time.sleep(0.3)
            stopped.set()
        for done in work:
            done.result()
    answered = {request_id for client in clients for request_id in client.answered}
    assert len(answered) > 10 * KILLS
    connection = sqlite3.connect(tmp_path / "fhir.db")
    texts = [text for (text,) in connection.execute("SELECT text FROM trail")]
    connection.close()
    records = [record for text in texts for record in audit_sheet.parse(text)]
    assert answered <= {record.request_id for record in records}
    # Many of them had their commits in common.
    assert len(texts) < len(records)
    code, said = server.ended("audit", "verify")
    assert code == 0, said
