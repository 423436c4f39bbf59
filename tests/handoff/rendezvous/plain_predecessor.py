"""A program that serves on a socket of its own, and leaves it to the next as LISTEN_FDS.

Arguments: `exec` or `spawn`, and the program of the next with its arguments. It answers some requests, and then becomes the next one; or
it starts the next one, goes on answering until that says READY=1, and ends.
"""
import select

HANDED_OVER_AFTER = 30

listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
# The flag is shared with all that have the socket, and the next one wants it.
listener.setblocking(False)


def answer_one(within):
    if not select.select([listener], [], [], within)[0]:
        return False
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return False
    connection.setblocking(True)
    with connection:
        return answer(connection)


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
        reader, writer = os.pipe()
        if os.fork():
            os._exit(0)
        os.close(writer)
        # Its end is that of the process in between.
        os.read(reader, 1)
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
