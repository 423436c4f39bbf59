// Posts 70 kB and gets 300 kB, by Node's http2 and without trying again, until standard input ends: `client.mjs ADDRESS FIRST`.
//
// What it says, `programs.rs` explains; what is answered, `routes.rs`.
import { connect } from "node:http2";

const SESSIONS = 2;
const STREAMS = 3;
const UP = 70_000;
const DOWN = 300_000;

const [, , address, first] = process.argv;
const period = Buffer.from([...Array(251).keys()]);
let next = Number(first);
let stopped = false;

const say = (line) => process.stdout.write(line + "\n");

function message(number, length) {
  const bytes = Buffer.alloc(length);
  bytes.writeBigUInt64BE(BigInt(number));
  const begin = number % 251;
  bytes.fill(Buffer.concat([period.subarray(begin), period.subarray(0, begin)]), 8);
  return bytes;
}

function open() {
  const session = connect("http://" + address);
  session.on("connect", () => say("opened"));
  session.on("goaway", () => (session.mustEnd = true));
  // Each call learns of it by its own stream.
  session.on("error", () => (session.mustEnd = true));
  return session;
}

function call(session, number) {
  return new Promise((resolve, reject) => {
    const path = `/real/exchange/${number}/${DOWN}`;
    const stream = session.request({ ":method": "POST", ":path": path });
    const parts = [];
    let status;
    stream.on("response", (headers) => (status = headers[":status"]));
    stream.on("data", (part) => parts.push(part));
    stream.on("error", reject);
    stream.on("close", () => {
      const isRight = status === 200 && Buffer.concat(parts).equals(message(number + 1, DOWN));
      isRight ? resolve() : reject(new Error(`another answer: ${status}, code ${stream.rstCode}`));
    });
    stream.end(message(number, UP));
  });
}

async function run(lane) {
  while (!stopped) {
    const number = 100 * next++;
    if (lane.session.mustEnd || lane.session.closed || lane.session.destroyed) lane.session = open();
    try {
      await call(lane.session, number);
      say("answered 1");
    } catch (error) {
      say(`lost ${number}: ${error.message}`);
    }
  }
}

process.stdin.on("end", () => (stopped = true)).resume();
const lanes = Array.from({ length: SESSIONS }, () => ({ session: open() }));
await Promise.all(lanes.flatMap((lane) => Array.from({ length: STREAMS }, () => run(lane))));
process.exit(0);
