"""A predecessor of another user that lies where it can, and hands over two connections of its own.

Arguments: the user that it becomes, the path at which it is found, and the path of a socket that it may not remove.
"""
user, path, victim = int(sys.argv[1]), *sys.argv[2:4]
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
os.chdir(os.path.dirname(path))


def listener(created):
    """A record of a socket that the service has bound, and of a file that it has created for that."""
    found = os.stat(created, follow_symlinks=False)
    return text("http") + b"\1" + text(os.fsencode(created)) + varint(found.st_dev) + varint(found.st_ino) + b"\1"


def connection(peer):
    return text("http") + peer + b"\0" + b"\0" + text(b"")


def ask(client):
    client.sendall(b"GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    answer = b""
    while more := client.recv(4096):
        answer += more
    return answer.decode().split("\r\n\r\n")[1]


place = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
place.bind(path)
os.chmod(path, 0o666)
place.listen(8)
say("is there")

tcp = socket.create_server(("127.0.0.1", 0))
# One that is bound elsewhere, and one whose name is the end of the path.
other, same_end = (socket.socket(socket.AF_UNIX) for _ in range(2))
other.bind(os.path.join(os.path.dirname(path), "app.sock"))
same_end.bind(os.path.basename(victim))
for unix in (other, same_end):
    unix.listen(8)

control, _ = place.accept()
receive_until(JOIN)
send(HELLO, varint(1) + varint(1) + varint(2**64 - 1) + varint(1) + varint(2**32 - 1))
records = [text("http") + b"\0\1", listener(victim), listener(victim)]
send(LISTENERS, varint(len(records)) + b"".join(records) + b"\0", [unix.fileno() for unix in (tcp, other, same_end)])
send(OFFERED)
receive_until(READY)
send(COMMIT)

own_client, own = socket.socketpair()
gate = socket.create_server(("127.0.0.1", 0))
tcp_client = socket.socket()
tcp_client.connect(gate.getsockname())
far, _ = gate.accept()
# pid 1, uid 0, gid 0; and 10.9.8.7:1.
root = varint(2) + b"\0" + b"\1" + b"\1" + varint(2) + varint(0) + varint(0)
elsewhere = varint(0) + bytes([10, 9, 8, 7]) + varint(1)
send(CONNECTIONS, varint(2) + connection(root) + connection(elsewhere), [own.fileno(), far.fileno()])
receive_until(TAKEN)
own.close()
far.close()
say("unix " + ask(own_client))
say("tcp %s is %s:%d" % (ask(tcp_client), *tcp_client.getsockname()))
send(DONE)
