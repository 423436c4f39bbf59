#!/usr/bin/env python3
"""Writes the first inputs of each fuzz target to fuzz/corpus/TARGET/seed-N: real messages, the units of the examples, forms of the docs.

The messages are written by hand here, so those of older versions stay."""
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz" / "corpus"


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def blob(content):
    content = content if isinstance(content, bytes) else content.encode()
    return varint(len(content)) + content


def message(kind, *fields):
    return struct.pack("<H", kind) + b"".join(fields)


def chunk(content):
    """As `Input::chunk` reads it."""
    return struct.pack(">H", len(content)) + content


HTTP = blob("http")
V4 = b"\0\x7f\0\0\x01\x50"
V6 = b"\1" + bytes(15) + b"\1" + varint(41234) + b"\0\2"
UNIX = b"\2\1" + b"\0" + blob("/run/a.sock") + b"\1" + b"\1\x18" + b"\0\0"
UNNAMED = b"\2\0\0"
VSOCK = b"\3\2" + varint(1024)
INLINE = b"\0" + blob("GET / HTTP/1.1\r\nHost: a\r\n")
EMPTY = b"\0\0"
ELAPSED = varint(300) + b"\2" + b"\1\1"


def memfd(length):
    return b"\1" + varint(length)


def connection(peer=V4, ahead=INLINE, undetected=b"\0", elapsed=ELAPSED):
    return HTTP + peer + undetected + ahead + elapsed


def connections(*records):
    return message(10, varint(len(records)), *map(blob, records))


def connections_v1(*records):
    return message(6, varint(len(records)), *records)


LISTENERS = [HTTP + b"\1" + blob("/run/a.sock") + b"\1\2" + b"\1", blob("") + b"\0\0"]
OLD = [connection(peer, elapsed=b"") for peer in (V4, UNIX)]

PACKETS = [
    message(1, b"\2\1", varint(1 << 40), b"\5\6"),
    message(2, b"\2", *LISTENERS, b"\1"),
    message(9, b"\2", *map(blob, LISTENERS), b"\0"),
    message(3, b"\0", blob("state"), b"\2\3", b"\1", blob("abc")),
    message(3, b"\1", blob("final"), b"\2", varint(1 << 20), b"\0"),
    message(4), message(5), message(7), message(33), message(40), message(64),
    connections(*(connection(peer) for peer in (V4, V6, UNIX, UNNAMED, VSOCK))),
    connections_v1(*OLD),
    message(8, blob("no room\n\x1b[2J")),
    message(11, b"\2"), message(12, varint(1 << 20)),
    message(32, b"\2\1", varint(300)),
    message(34, blob("cannot bind\u009b")),
    message(35, varint(4096)), message(36, varint(253)),
    message(37, b"\1", blob("full")),
    message(38, blob("final"), b"\1", blob("broken\r")),
    message(39, b"\0"),
    message(41, b"\1", blob("http"), blob("127.0.0.1:80")),
    message(65, b"\1", varint(300), b"\0"), message(65, b"\0\1", blob("it drains")),
]


def batch(count, packet, long=None, version=2):
    return struct.pack(">H", count) + bytes([long is not None, version - 1]) + chunk(long or b"") + packet


BATCHES = [
    batch(1, connections(connection())),
    batch(2, connections(connection(), connection(UNIX, EMPTY, b"\1"))),
    batch(2, connections(connection(ahead=memfd(3)), connection(V6, memfd(5))), b"abcdefgh"),
    batch(3, connections(connection(ahead=memfd(3)), connection(), connection(ahead=memfd(1))), b"abcd", 1),
    batch(1, connections(connection(ahead=memfd(5000))), b"x" * 5000),
    batch(2, connections_v1(*OLD), version=1),
    batch(1, connections(connection(ahead=memfd(1 << 40))), b"abc"),
]


def record(head, ahead):
    return struct.pack("<II", len(head), len(ahead)) + head + ahead


def journal(*records, cut=65535):
    return struct.pack(">H", cut) + b"aa.jrnl\x01" + b"".join(records)


FIRST_HEAD = b"\7" + HTTP + V4 + b"\1"
JOURNALS = [
    journal(),
    journal(record(FIRST_HEAD, b"GET")),
    journal(record(FIRST_HEAD + ELAPSED, b"GET / HTTP/1.1\r\n"), record(b"\x08" + HTTP + UNIX + b"\0" + ELAPSED, b""), cut=40),
    journal(record(b"\xff\xff", b"a"), record(FIRST_HEAD, b"b"), record(FIRST_HEAD, b"c")[:-1]),
]

ENVIRONMENTS = [
    "LISTEN_FDS=2\nLISTEN_PID=42\nLISTEN_FDNAMES=http:admin",
    "LISTEN_FDS=3\nLISTEN_PID=42\nLISTEN_PIDFDID=7\nLISTEN_FDNAMES=a b@*~::http",
    "LISTEN_FDS=1\nLISTEN_FDS_FIRST_FD=5",
    "LISTEN_FDS=2147483644\nLISTEN_PID=43",
    "LISTEN_PID=-42\nLISTEN_FDS=1.5\nLISTEN_PIDFDID=8",
    "aa.l/http\naa.l+fe01+2f3a/a/b+c\naa.l+0+ffffffffffffffff/[%3a%3a1]%3a80%20%25%c3%a4",
]

ADDRESSES = [
    "127.0.0.1:8080", "[::1]:8080", "[fe80::1%2]:80", "localhost:8080", ":8080", "unix:/run/app.sock", "/run/app.sock", "@app",
    "vsock:3:8080", "vsock::8080", "&http", "8080", "http://localhost:8080", "::1:80", "[::1]", "127.1:80", "localhost", "unix:@a",
    "unix", "unix (pid 1, uid 0, gid 0)", "unix:/run/client.sock (pid 12, uid 1000, gid 1000)", "@client (uid 1000, gid 100)", "@a ()",
    V4, V6, UNIX, UNNAMED, VSOCK, b"\2\1\2" + blob("localhost:80") + b"\0",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FIRST_BYTES = [
    chunk(cuts) + first
    for cuts in (b"", b"\1", b"\3\x10")
    for first in (b"", PREFACE, PREFACE[:10], PREFACE + b"\0\0\0\4\0\0\0\0\0", PREFACE[:20] + b"x", b"GET / HTTP/1.1\r\n\r\n", b"POST")
]


def unit(path):
    return f"### {path.name}\n{path.read_text()}"


SHOWN = """### show
Id=app.service
LoadState=loaded
Type=notify
ExecStart={ path=/bin/sh ; argv[]=/bin/sh -c app "x y" ; ignore_errors=no ; start_time=[n/a] }
TimeoutStopUSec=1min 30s
TriggeredBy=app.socket
LimitNOFILESoft=1024

Id=app.socket
Listen=[::]:8080 (Stream)
Triggers=app.service
"""


def units():
    examples = ROOT / "examples" / "systemd"
    expected = "### expect name=http handoff=/run/app/h.sock fd_store=512 connections=10000 fallback=unix:/run/app/a.sock\n"
    for service in sorted([*examples.glob("*.service"), ROOT / "docs" / "deploy" / "app.container"]):
        sockets = sorted(examples.glob(service.name.split(".")[0].rstrip("@") + "*.socket"))
        yield expected + "".join(map(unit, [service, *sockets]))
    yield expected + SHOWN
    yield "### expect drain=20 idle_exit\n### a@1.service\n[Service]\nExecStart=-/bin/bash -ec \"cd /srv && prog --x\"\nRestart=always\n" \
        "### a@.service.d/x.conf\n[Service]\nTimeoutSec=1.5h \\\n# no\n 30s\n"
    yield "1min 30s"
    yield "1.5h 2d .25us infinity"


def write(target, inputs):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(inputs):
        (folder / f"seed-{number}").write_bytes(content if isinstance(content, bytes) else content.encode())


for target, inputs in {
    "addresses": ADDRESSES, "batch": BATCHES, "detect": FIRST_BYTES, "environment": ENVIRONMENTS, "journal": JOURNALS,
    "packet": PACKETS, "units": units(),
}.items():
    write(target, inputs)
