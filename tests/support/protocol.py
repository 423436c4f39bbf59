"""What the peers in Python share: the handoff protocol by hand, over the socket `control`, and lines that the test reads."""
import json
import os
import signal
import socket
import struct
import sys
import threading
import time

HELLO, LISTENERS, SECTION, OFFERED, COMMIT, CONNECTIONS, DONE, ABORT = range(1, 9)
CONNECTIONS_2, CARRIED = 10, 13
JOIN, READY, FAILED, CREDIT, TAKEN, REFUSED, FINAL_TAKEN, TRIM, LEAVING = range(32, 41)
ACCEPTS = 42

# Kept open.
held = []


def say(line):
    os.write(1, b"\n\1report " + json.dumps({"pid": os.getpid(), "line": line}).encode() + b"\n")


def at_end():
    """What comes after the end of the control socket."""
    sys.exit(1)


def end_with_the_test():
    """All of it ends when standard input does."""

    def watch():
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def text(words):
    content = words if isinstance(words, bytes) else words.encode()
    return varint(len(content)) + content


def send(kind, body=b"", fds=()):
    socket.send_fds(control, [struct.pack("<H", kind) + body], fds)


def receive():
    """The kind and the body of the next message; its descriptors are kept open."""
    packet, fds, _, _ = socket.recv_fds(control, 1 << 16, 253)
    held.extend(fds)
    if not packet:
        return None, b""
    return struct.unpack("<H", packet[:2])[0], packet[2:]


def receive_until(kind):
    while True:
        came, body = receive()
        if came is None:
            say("sees the end")
            at_end()
        if came == kind:
            return body


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def answer(connection):
    """One request, of a program that knows nothing of this crate; whether there was one."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = connection.recv(4096)
        if not more:
            return False
        head += more
    path = head.split()[1].decode()
    body = f"99 {os.getpid()}" if path == "/who" else path[1:]
    connection.sendall(f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    return True
