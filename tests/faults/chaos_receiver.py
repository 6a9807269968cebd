"""Subscribers' endpoints that misbehave each in its own way, as a process.

/fine answers, /slow takes its time, /failing says 500 every third time, /cutting keeps what it
got and cuts the connection every second time. What each took is appended to a file as one
JSON object a request: when, under which key, and the events in it.

    python chaos_receiver.py PORT JOURNAL
"""

import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOCK = threading.Lock()
COUNTS = Counter()


def events(bundle):
    """Number, resource and version of each event told, with the time of its commit."""
    numbers = [
        int(part["valueString"])
        for parameter in bundle["entry"][0]["resource"]["parameter"]
        if parameter["name"] == "notification-event"
        for part in parameter["part"]
        if part["name"] == "event-number"
    ]
    resources = [entry["resource"] for entry in bundle["entry"][1:]]
    return [
        [number, each["id"], int(each["meta"]["versionId"]), each["meta"]["lastUpdated"]]
        for number, each in zip(numbers, resources, strict=True)
    ]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # The answer and its headers leave together, not a delayed acknowledgement apart.
    wbufsize = -1

    def do_GET(self):
        self.answer(200)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        at = time.time()
        told = events(json.loads(body))
        name = self.path.strip("/")
        with LOCK:
            COUNTS[name] += 1
            count = COUNTS[name]
        if name == "failing" and count % 3 == 0 and told:
            return self.answer(500)
        if name == "slow":
            time.sleep(0.15)
        with LOCK:
            line = {"at": at, "name": name, "key": self.headers["Idempotency-Key"], "told": told}
            JOURNAL.write(json.dumps(line) + "\n")
            JOURNAL.flush()
        if name == "cutting" and count % 2 == 0 and told:
            self.close_connection = True
            return None
        return self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        return


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    with open(sys.argv[2], "a") as JOURNAL:  # noqa: PTH123
        Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
