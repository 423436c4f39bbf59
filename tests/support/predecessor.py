"""A predecessor that hands over by hand, up to a step, and then is killed.

Arguments: the step, the program of the successor, and its arguments. It binds the listener "http" and starts the successor as an
init system would, with the control socket as its last descriptor.
"""
CLIENTS = 20

listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
control, other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def start(program, arguments):
    if os.fork():
        return
    os.dup2(listener.fileno(), 103)
    os.dup2(other_end.fileno(), 104)
    os.dup2(103, 3)
    os.dup2(104, 4)
    os.closerange(5, 200)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="http:axum-activation.handoff")
    os.execv(program, [program, *arguments])


def hello():
    send(HELLO, varint(1) + varint(1) + varint(41) + varint(os.getpid()) + varint(0))


def listeners():
    hello()
    send(LISTENERS, varint(1) + text("http") + b"\0\1" + b"\0")


def offered():
    listeners()
    send(OFFERED)


def ready():
    offered()
    receive_until(READY)


def commit():
    ready()
    send(COMMIT)


def connections():
    """Its own clients, whose connections move."""
    # Half of a head has been read of each.
    ahead = b"GET /who HTTP/1.1\r\nHo"
    records = b""
    for _, (address, port) in accepted:
        peer = varint(0) + socket.inet_aton(address) + varint(port)
        records += text("http") + peer + b"\0" + varint(0) + varint(len(ahead)) + ahead
    commit()
    receive_until(CREDIT)
    send(CONNECTIONS, varint(CLIENTS) + records, [connection.fileno() for connection, _ in accepted])


def watch():
    """A process that asks on all of them when this one is gone."""
    reader, writer = os.pipe()
    if os.fork():
        return
    os.close(writer)
    control.close()
    listener.close()
    other_end.close()
    # Its end is that of the process that has the other end.
    os.read(reader, 1)
    answers = 0
    for client in clients:
        client.sendall(b"st: test\r\n\r\n")
    for client in clients:
        client.settimeout(30)
        answer = client.recv(4096)
        answers += answer.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\n\r\n42 " in answer
    say(f"saw {answers} answers")
    os._exit(0)


def taken():
    connections()
    # Taken and read from only when that is said: before, the connections are still the old one's.
    receive_until(TAKEN)
    watch()


if __name__ == "__main__":
    step, program, *arguments = sys.argv[1:]
    clients = [socket.create_connection(listener.getsockname()) for _ in range(CLIENTS)]
    accepted = [listener.accept() for _ in range(CLIENTS)]
    say("listens http %s:%d" % listener.getsockname())
    start(program, arguments)
    other_end.close()
    receive_until(JOIN)
    {"join": lambda: None, "hello": hello, "listeners": listeners, "offered": offered, "ready": ready, "commit": commit, "connections": connections, "taken": taken}[step]()
    say(f"dies at {step}")
    die()
