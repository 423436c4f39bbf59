"""A service that knows sd_listen_fds(3) and nothing else: HTTP, one connection at a time in each of a few threads.

It takes its socket as descriptor 3, as it is: blocking. It says READY=1 where it is given a notify socket (sd_notify(3)), and ends with
SIGTERM, or with the test.
"""
def listen_fds():
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise SystemExit("LISTEN_PID is another's")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    return dict(zip(names, (socket.socket(fileno=3 + at) for at in range(int(os.environ["LISTEN_FDS"])))))


def notify(words):
    address = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(words, "\0" + address[1:] if address[0] == "@" else address)


def serve(listener):
    while True:
        connection, _ = listener.accept()
        with connection:
            answer(connection)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    end_with_the_test()
    sockets = listen_fds()
    say(f"has {sorted(sockets)} blocking {all(os.get_blocking(s.fileno()) for s in sockets.values())}")
    for _ in range(3):
        threading.Thread(target=serve, args=[sockets["http"]], daemon=True).start()
    if "NOTIFY_SOCKET" in os.environ:
        notify(b"STATUS=accepting\nREADY=1\n")
    serve(sockets["http"])
