"""Calls a gRPC service by grpcio, without trying again, until standard input ends: `client.py ADDRESS FIRST`.

What it says, `programs.rs` explains; what the methods answer, `grpc.rs`.
"""
import itertools
import sys
import threading

import grpc

PERIOD = bytes(range(251))
CHANNELS, LANES = 4, 2

address, first = sys.argv[1], int(sys.argv[2])
numbers = itertools.count(first)
stopped = threading.Event()
speaking = threading.Lock()


def say(line):
    with speaking:
        print(line, flush=True)


def message(number, length):
    begin = number % 251
    return (number.to_bytes(8, "big") + (PERIOD * (length // 251 + 2))[begin : begin + max(length - 8, 0)])[:length]


def length(number):
    return (10, 100, 900, 40_000, 3_000, 70, 16_384)[number % 7]


def call(channel, kind, number):
    count = 1 + number // 100 % 12
    sent = [message(number + more, length(number + more)) for more in range(count)]
    path = "/real.Echo/" + kind
    if kind == "Unary":
        return channel.unary_unary(path)(sent[0]) == sent[0]
    if kind == "Client":
        return channel.stream_unary(path)(iter(sent)) == b"".join(sent)
    if kind == "Server":
        size = length(number)
        request = b"".join(part.to_bytes(8, "big") for part in (number, count, size))
        expected = [message(number + more, size) for more in range(1, count + 1)]
        return list(channel.unary_stream(path)(request)) == expected
    return list(channel.stream_stream(path)(iter(sent))) == sent


def run(channel, lane):
    for kind in itertools.islice(itertools.cycle(("Unary", "Client", "Server", "Both")), lane, None):
        if stopped.is_set():
            return
        number = 100 * next(numbers)
        try:
            right = call(channel, kind, number)
            say("answered 1" if right else f"lost {kind} {number}: another answer")
        except grpc.RpcError as error:
            say(f"lost {kind} {number}: {error.code()} {error.details()}")


def note_state(state):
    if state is grpc.ChannelConnectivity.READY:
        say("opened")


options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
channels = [grpc.insecure_channel(address, options) for _ in range(CHANNELS)]
for channel in channels:
    channel.subscribe(note_state, try_to_connect=True)
lanes = [threading.Thread(target=run, args=(channel, lane)) for channel in channels for lane in range(LANES)]
for lane in lanes:
    lane.start()
sys.stdin.read()
stopped.set()
for lane in lanes:
    lane.join()
