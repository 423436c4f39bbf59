"""A program that serves on a socket of its own, and leaves it to the next as LISTEN_FDS.

Arguments: `exec` or `spawn`, and the program of the next with its arguments. It answers some requests, and then becomes the next one; or
it starts the next one, goes on answering until that says READY=1, and ends.
"""
import json
import os
import select
import socket
import sys
import time

HANDED_OVER_AFTER = 30

listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
# The flag is shared with whoever has the socket too, and the next one wants it.
listener.setblocking(False)


def say(line):
    os.write(1, b"\n\1report " + json.dumps({"pid": os.getpid(), "line": line}).encode() + b"\n")


def answer_one(within):
    if not select.select([listener], [], [], within)[0]:
        return False
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return False
    connection.setblocking(True)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = connection.recv(4096)
        if not more:
            return False
        head += more
    path = head.split()[1].decode()
    body = f"99 {os.getpid()}" if path == "/who" else path[1:]
    connection.sendall(f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    connection.close()
    return True


def become(program, *arguments):
    if listener.fileno() == 3:
        os.set_inheritable(3, True)
    else:
        os.dup2(listener.fileno(), 3)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="http")
    os.execv(program, [program, *arguments])


def spawn(*words):
    inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    inbox.bind(f"\0plain-predecessor-{os.getpid()}")
    inbox.setblocking(False)
    child = os.fork()
    if child == 0:
        # An orphan, as the test's processes end with their parent.
        parent = os.getpid()
        if os.fork():
            os._exit(0)
        while os.getppid() == parent:
            time.sleep(0.001)
        os.environ["NOTIFY_SOCKET"] = inbox.getsockname().decode().replace("\0", "@")
        become(*words)
    os.waitpid(child, 0)
    while True:
        answer_one(0.01)
        try:
            if b"READY=1" in inbox.recv(4096).split(b"\n"):
                break
        except BlockingIOError:
            pass
    say("leaves")
    # The rest of the pipes is the next one's.
    os._exit(0)


if __name__ == "__main__":
    how, *words = sys.argv[1:]
    say("listens %s:%d" % listener.getsockname())
    served = 0
    while served < HANDED_OVER_AFTER:
        served += answer_one(1)
    say("hands over")
    {"exec": become, "spawn": spawn}[how](*words)
