"""A packet identifier is acknowledged on the connection it came by, and on no other."""

import asyncio
import socket
import threading
from datetime import UTC, datetime

from fhir_server.intake.broker import Broker
from fhir_server.intake.connection import Connection, Session

SESSION = Session("listener", ("a",), 60, 10, 1024)
NOW = datetime(2026, 3, 1, tzinfo=UTC)

CONNACK = bytes([0x20, 3, 1, 0, 0])
PUBACK = 0x40


def publish(mid, payload):
    body = b"\x00\x01a" + mid.to_bytes(2) + b"\x00" + payload
    return bytes([0x32, len(body)]) + body


class Peer:
    """The broker's end of one connection after the other, byte by byte."""

    def __init__(self):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.socket = None
        self.heard = bytearray()

    def accept(self):
        self.socket, _ = self.listening.accept()
        self.heard = bytearray()
        threading.Thread(target=self._hear, args=(self.socket, self.heard), daemon=True).start()
        self.socket.sendall(CONNACK)

    @staticmethod
    def _hear(heard_from, heard):
        try:
            while part := heard_from.recv(4096):
                heard += part
        except OSError:
            return

    def puback(self, mid):
        return bytes([PUBACK, 2]) + mid.to_bytes(2) in self.heard


async def until(holds):
    async with asyncio.timeout(15):
        while not holds():  # noqa: ASYNC110 - what is waited for is no event of the loop
            await asyncio.sleep(0.01)


def test_what_came_before_a_reconnect_is_not_acknowledged_after_it():
    async def run():
        peer = Peer()
        arrived = []
        connection = Connection(
            Broker("127.0.0.1", peer.port, "", "", None),
            SESSION,
            lambda: NOW,
            arrived.append,
            arrived.append,
        )
        connection.open()
        await asyncio.to_thread(peer.accept)
        peer.socket.sendall(publish(7, b"first"))
        await until(lambda: arrived)
        peer.socket.shutdown(socket.SHUT_RDWR)
        peer.socket.close()
        await asyncio.to_thread(peer.accept)
        # The broker lost its memory: the number is another message's now.
        peer.socket.sendall(publish(7, b"second"))
        await until(lambda: len(arrived) == 2)
        first, second = arrived

        assert connection.acknowledge([first]) == 0
        assert connection.acknowledge([second]) == 1
        await until(lambda: peer.puback(7))
        await connection.close()
        assert peer.heard.count(bytes([PUBACK, 2])) == 1
        assert [m.payload for m in arrived] == [b"first", b"second"]
        peer.socket.close()
        peer.listening.close()

    asyncio.run(run())
