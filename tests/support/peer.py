"""A successor that speaks the handoff protocol by hand, up to a step, and then misbehaves.

Arguments: a verb and what it needs. Its control socket is the last descriptor of LISTEN_FDS.
"""
control = socket.socket(fileno=2 + int(os.environ["LISTEN_FDS"]))
control.setblocking(True)


def park():
    while True:
        signal.pause()


at_end = park


def count(body):
    """The number with which a list begins."""
    number = shift = 0
    for byte in body:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return number


def join(version=1, oldest=1):
    send(JOIN, varint(version) + varint(oldest) + varint(os.getpid()))


def joined():
    join()
    receive_until(OFFERED)


def ready():
    joined()
    send(READY)


def committed():
    ready()
    receive_until(COMMIT)


def stop_at(step):
    """Comes to that step, says so and does nothing more."""
    if step in ("join", "listeners", "offered", "ready", "commit"):
        join()
    if step in ("listeners", "offered", "ready", "commit"):
        receive_until(LISTENERS)
    if step in ("offered", "ready", "commit"):
        receive_until(OFFERED)
    if step in ("ready", "commit"):
        send(READY)
    if step == "commit":
        receive_until(COMMIT)
    say(f"stops at {step}")


def stop(step):
    stop_at(step)
    park()


def die_at(step):
    stop_at(step)
    die()


def take(wanted, taken):
    """Grants leave for connections, and answers for so many messages with them."""
    committed()
    send(CREDIT, varint(int(wanted)))
    came = 0
    for _ in range(int(taken)):
        records = count(receive_until(CONNECTIONS))
        send(TAKEN, varint(records))
        came += records
    done = came
    while came < int(wanted):
        came += count(receive_until(CONNECTIONS))
    say(f"has taken {done} of {came} connections")
    die()


def refuse(wanted):
    """Refuses every connection, and lives on."""
    committed()
    send(CREDIT, varint(int(wanted)))
    while True:
        kind, body = receive()
        if kind == CONNECTIONS:
            send(REFUSED, varint(count(body)) + text("the peer of the test takes none"))
        if kind in (DONE, None):
            park()


def carried(answer, wanted):
    """Says that it takes every kind, and answers to so many connections that are no idle ones of HTTP/1."""
    join(version=2)
    receive_until(OFFERED)
    send(ACCEPTS, varint(1) + text(text("http") + b"\x01\x01"))
    send(READY)
    receive_until(COMMIT)
    send(CREDIT, varint(1000))
    came = 0
    while True:
        kind, body = receive()
        # Answers come in the order of the messages, so nothing is answered behind one that is not.
        if kind == CONNECTIONS_2 and (answer == "refuse" or came == 0):
            send(REFUSED, varint(count(body)) + text("the peer of the test takes none of these"))
        if kind == CARRIED:
            came += count(body)
            if answer == "refuse":
                while held:
                    os.close(held.pop())
                send(REFUSED, varint(count(body)) + text("the peer of the test takes none of those"))
            if came == int(wanted):
                say(f"got {came}")
                if answer == "die":
                    die()
        if kind in (DONE, None):
            park()


def leave(after):
    """Says that it stops, and lives on."""
    stop_at(after)
    send(LEAVING)
    park()


def leave_unanswered(wanted):
    """Takes so many connections without an answer, says that it stops, and lives on."""
    committed()
    send(CREDIT, varint(int(wanted)))
    came = 0
    while came < int(wanted):
        came += count(receive_until(CONNECTIONS))
    send(LEAVING)
    say("has left")
    park()


def fail(*reason):
    joined()
    send(FAILED, text(" ".join(reason)))
    park()


def version(newest, oldest):
    join(int(newest), int(oldest))
    receive()
    park()


def garbage(step):
    stop_at(step)
    control.send(os.urandom(1000))
    control.send(b"x")
    park()


def malformed(step):
    """A message that is known, with nothing in it that is."""
    stop_at(step)
    send(REFUSED, b"\xff" * 40)
    park()


def unknown(step):
    """Messages of a later version: to be ignored."""
    stop_at(step)
    for kind in (100, 1000, 65535):
        send(kind, os.urandom(100))
    send(READY if step == "offered" else 100)
    receive_until(COMMIT)
    say("was understood")
    die()


def long(step):
    stop_at(step)
    control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    send(CREDIT, bytes(100_000))
    park()


def order(step):
    """A message where another was to come."""
    stop_at(step)
    send(COMMIT)
    park()


def flood(step):
    """Sends what says nothing, without end."""
    stop_at(step)
    try:
        while True:
            send(1000, bytes(1000))
    except OSError:
        park()


def descriptors(step):
    """Sends descriptors that belong to nothing, without end."""
    stop_at(step)
    nothing = os.open("/dev/null", os.O_RDONLY)
    try:
        while True:
            send(1000, fds=[nothing] * 200)
    except OSError:
        park()


def closes(step):
    """Closes the control socket, and lives on."""
    stop_at(step)
    control.close()
    park()


if __name__ == "__main__":
    end_with_the_test()
    verbs = (stop, die_at, take, refuse, carried, leave, leave_unanswered, fail, version, garbage, malformed, unknown, long, order, flood, descriptors, closes)
    verb = {verb.__name__: verb for verb in verbs}[sys.argv[1]]
    verb(*sys.argv[2:])
