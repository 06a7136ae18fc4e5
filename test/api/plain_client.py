"""A client of the engine API with nothing but the standard library: what schemas/api.md says, and no more. Run by document.test.ts.

usage: plain_client.py SOCKET. Prints one JSON line of what it saw.
"""
import json
import os
import socket
import struct
import sys


def pack(value):
    if value is True or value is False:
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return struct.pack(">BI", 0xCE, value)
    if isinstance(value, str):
        data = value.encode()
        return struct.pack(">BB", 0xD9, len(data)) + data
    if isinstance(value, bytes):
        return struct.pack(">BI", 0xC6, len(value)) + value
    if isinstance(value, list):
        return struct.pack(">BH", 0xDC, len(value)) + b"".join(map(pack, value))
    return struct.pack(">BH", 0xDE, len(value)) + b"".join(pack(key) + pack(item) for key, item in value.items())


FIXED = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
SIZED = {0xC4: (">B", bytes), 0xC5: (">H", bytes), 0xC6: (">I", bytes), 0xD9: (">B", str), 0xDA: (">H", str), 0xDB: (">I", str)}
COUNTED = {0xDC: (">H", list), 0xDD: (">I", list), 0xDE: (">H", dict), 0xDF: (">I", dict)}


class Unpacker:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def value(self):
        kind = self.take(1)[0]
        if kind <= 0x7F:
            return kind
        if kind >= 0xE0:
            return kind - 256
        if kind <= 0x8F:
            return self.items(kind & 15, dict)
        if kind <= 0x9F:
            return self.items(kind & 15, list)
        if kind <= 0xBF:
            return self.take(kind & 31).decode()
        if kind <= 0xC3:
            return {0xC0: None, 0xC2: False, 0xC3: True}[kind]
        if kind in FIXED:
            return self.number(FIXED[kind])
        if kind in SIZED:
            form, made = SIZED[kind]
            data = self.take(self.number(form))
            return data.decode() if made is str else bytes(data)
        form, made = COUNTED[kind]
        return self.items(self.number(form), made)

    def items(self, count, made):
        if made is list:
            return [self.value() for _ in range(count)]
        return {self.value(): self.value() for _ in range(count)}


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)
        self.socket.sendall(
            b"GET / HTTP/1.1\r\nHost: kvferry\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.socket.recv(65536)
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101"), head
        self.next_id, self.events = 1, []

    def read(self, count):
        while len(self.buffer) < count:
            data = self.socket.recv(65536)
            assert data, "the connection has ended"
            self.buffer += data
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def send(self, opcode, data):
        # A client's frames are masked; a mask of zeros leaves the data as it is.
        self.socket.sendall(struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, len(data)) + bytes(4) + data)

    def receive(self):
        while True:
            first, length = self.read(2)
            if length >= 126:
                length = struct.unpack(">H" if length == 126 else ">Q", self.read(2 if length == 126 else 8))[0]
            data = self.read(length)
            if first == 0x82:
                return Unpacker(data).value()
            if first == 0x89:
                self.send(10, data)

    def ask(self, op, **fields):
        request, self.next_id = self.next_id, self.next_id + 1
        self.send(2, pack({"id": request, "op": op, **fields}))
        while True:
            message = self.receive()
            if "event" in message:
                self.events.append(message)
                continue
            assert message["id"] == request
            return message.get("ok", message.get("error"))


client = Client(sys.argv[1])
hello = client.ask("hello", version=1, client="py", processId=os.getpid())
pool = client.ask("pool")
blocks = client.ask("alloc", count=3)
ids = struct.unpack("<3I", blocks["ids"])
keys = bytes(range(96))
published = client.ask("publish", model=3, group=0, blocks=blocks, keys=keys)
leased = client.ask("lease", model=3, group=0, keys=keys, prefix=True)
fetched = client.ask("fetch", peer="b", model=3, source={"handle": "h"}, into=[{"group": 0, "blocks": leased, "tokens": 48}])
client.ask("cancel", transfer=fetched["transfer"])
refused = client.ask("alloc", count=0)
closed = client.ask("close")
print(
    json.dumps(
        {
            "version": hello["version"],
            "pool_bytes": pool["bytes"],
            "ids": ids,
            "leased": struct.unpack("<3I", leased["ids"]),
            "published": published,
            "transfer": fetched["transfer"],
            "events": [event["event"] for event in client.events],
            "refused": refused["code"],
            "closed": closed,
        }
    )
)
