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


HTTP2 = b"\2" + b"\3" + varint(100) + b"\4" + varint(65535) + b"\4" + b"".join(
    varint(setting) + varint(value) for setting, value in ((3, 200), (4, 65535), (5, 16384), (6, 16384))
) + varint(7) + varint(65535) + varint(1 << 20) + b"\1"
RESUMABLE = blob("GET") + blob("/chat?room=1") + b"\1" + blob("host") + blob("a") + varint(101) + b"\1" + blob("upgrade") \
    + blob("websocket") + blob("state") + b"\1"


def carried(kind, record, ahead=INLINE, elapsed=ELAPSED):
    record = record if isinstance(record, int) else b"\0" + blob(record)
    return blob(connection(ahead=ahead, elapsed=elapsed)) + bytes([kind]) + (memfd(record) if isinstance(record, int) else record)


def carried_connections(*records):
    return message(13, varint(len(records)), *map(blob, records))


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
    carried_connections(carried(1, HTTP2), carried(2, RESUMABLE, memfd(5000)), carried(2, 6000, EMPTY)),
    message(42, b"\1", blob(HTTP + b"\1\1")),
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
    batch(2, carried_connections(carried(1, HTTP2), carried(1, HTTP2, EMPTY))),
    batch(2, carried_connections(carried(2, RESUMABLE), carried(1, HTTP2, memfd(3))), b"abc"),
    batch(1, carried_connections(carried(2, len(RESUMABLE), memfd(3))), b"abc" + RESUMABLE),
]


def record(head, ahead):
    return struct.pack("<II", len(head), len(ahead)) + head + ahead


def journal(*records, cut=65535, magic=b"aa.jrnl\x01"):
    return struct.pack(">H", cut) + magic + b"".join(records)


FIRST_HEAD = b"\7" + HTTP + V4 + b"\1"
JOURNALS = [
    journal(),
    journal(record(FIRST_HEAD, b"GET")),
    journal(record(FIRST_HEAD + ELAPSED, b"GET / HTTP/1.1\r\n"), record(b"\x08" + HTTP + UNIX + b"\0" + ELAPSED, b""), cut=40),
    journal(record(b"\xff\xff", b"a"), record(FIRST_HEAD, b"b"), record(FIRST_HEAD, b"c")[:-1]),
    journal(
        record(blob(FIRST_HEAD + ELAPSED) + b"\1" + blob(HTTP2), b"frames"),
        record(blob(FIRST_HEAD) + b"\2" + blob(RESUMABLE), b""),
        cut=60, magic=b"aa.jrnc\x01",
    ),
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


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


# As the targets read them: a step each, and what it takes.
ASK, HOLD_NO_MORE, START, DEPART = b"\x08", b"\x0a", b"\x0d", b"\x0e"


def sent(content):
    return b"\1" + chunk(content)


HTTP2_FRAMES = [
    chunk(cuts) + START + b"".join(steps)
    for cuts in (b"", b"\1", b"\7\x20")
    for steps in (
        [sent(frame(1, 5, 1, b"\x82\x87")), ASK, sent(frame(4, 1, 0)), DEPART],
        [ASK, sent(frame(4, 1, 0) + frame(1, 4, 1, b"\x20\x82") + frame(0, 1, 1, b"body")), HOLD_NO_MORE],
        [ASK, sent(frame(4, 1, 0) + frame(1, 5, 1, b"\x20\x82") + frame(3, 0, 1, bytes(4))), DEPART],
        [sent(frame(1, 1, 1, b"\x40\1a\1b")), sent(frame(9, 4, 1, b"\x82")), ASK, sent(frame(4, 1, 0)), HOLD_NO_MORE],
        [ASK, sent(frame(4, 1, 0) + frame(6, 0, 0, bytes(8)) + frame(8, 0, 0, b"\0\0\1\0")), DEPART, DEPART],
    )
]
# 22: all is delivered; 16: a move is asked for; 0: a request; 13: it is answered; 23: a quiet point.
HTTP2_MOVES = [
    bytes([disobeys, window, 22, 16, 22, 22, 23, 0, 1, 0, 0, 22, 13, 0, 22, 16, 22, 0, 1, 0, 1, 0, 4, 22, 23, 22, 13, 0, 22])
    for disobeys in (0, 1, 2, 0x40) for window in (0, 1)
]
HEADER_BLOCKS = [
    b"\0" + chunk(b"\1") + b"\0\0" + bytes([flags, 2]) + block
    for flags in (0, 8, 0x20, 0x28)
    for block in (b"\x20\x82\x87", b"\x40\1a\1b\xbe", b"\x3f\xe1\x1f\xbe", b"\0\x0a" + b"k" * 10 + b"\x7f\3abc", b"\xff\x80\1")
]
MASK = b"\1\2\3\4"
WEBSOCKETS = [
    bytes([of_client, rsv1]) + chunk(cuts) + b"".join(
        bytes([first, length | (0x80 if of_client else 0)]) + extended + (MASK if of_client else b"") + b"x" * size
        for first, length, extended, size in frames
    )
    for of_client in (0, 1) for rsv1 in (0, 1) for cuts in (b"", b"\1")
    for frames in (
        [(0x81, 5, b"", 5), (0x82, 0, b"", 0)],
        [(0x01, 3, b"", 3), (0x89, 2, b"", 2), (0x80, 126, b"\0\x80", 128)],
        [(0xc1, 127, bytes(6) + b"\1\0", 256), (0x88, 2, b"", 2)],
        [(0x82, 127, b"\x7f" + b"\xff" * 7, 9)],
    )
]


def write(target, inputs):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(inputs):
        (folder / f"seed-{number}").write_bytes(content if isinstance(content, bytes) else content.encode())


for target, inputs in {
    "addresses": ADDRESSES, "batch": BATCHES, "detect": FIRST_BYTES, "environment": ENVIRONMENTS, "journal": JOURNALS,
    "header_block": HEADER_BLOCKS, "http2_frames": HTTP2_FRAMES, "http2_moves": HTTP2_MOVES, "packet": PACKETS, "units": units(),
    "websocket": WEBSOCKETS,
}.items():
    write(target, inputs)
