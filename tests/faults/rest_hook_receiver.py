"""A subscriber's endpoint as a process: keeps what it gets, answers as it is told.

POST /control sets the behaviour by JSON: {"path": "/a", "status": 500, "delay": 0.0,
"cut": false, "is_fhir": false}; GET /journal?path=/a is what came there, one object a request.
"""

import hashlib
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

LOCK = threading.Lock()
JOURNAL = []
BEHAVIOUR = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = parse_qs(urlsplit(self.path).query).get("path", [""])[0]
        with LOCK:
            found = [each for each in JOURNAL if each["path"].startswith(asked)]
        self.answer(200, json.dumps(found).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/control":
            told = json.loads(body)
            with LOCK:
                BEHAVIOUR[told.pop("path")] = told
            return self.answer(200, b"{}")
        endpoint = "/" + self.path.split("/")[1].partition("?")[0]
        with LOCK:
            behaviour = BEHAVIOUR.get(endpoint, {})
        time.sleep(behaviour.get("delay", 0))
        status = behaviour.get("status", 200)
        headers = {name.lower(): value for name, value in self.headers.items()}
        with LOCK:
            JOURNAL.append(
                {
                    "at": time.time(),
                    "method": self.command,
                    "path": self.path,
                    "headers": headers,
                    "body": body.decode(),
                    "status": status,
                }
            )
            is_cut = behaviour.get("cut", 0) > 0
            if is_cut:
                behaviour["cut"] -= 1
        if is_cut:
            self.close_connection = True
            return None
        location = None
        if behaviour.get("is_fhir"):
            resource_type = urlsplit(self.path).path.rpartition("/")[2]
            name = hashlib.sha256(self.path.encode() + body).hexdigest()[:12]
            location = f"{resource_type}/there-{name}"
        return self.answer(status, b"", location)

    do_PUT = do_POST  # noqa: N815

    def answer(self, status, body, location=None):
        self.send_response(status)
        if location is not None:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        return


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
