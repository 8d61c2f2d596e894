import { ServerMessageTap } from "../../src/deps/server_message_tap.ts";
import { assert, suite } from "../support/harness.ts";

const test = suite("deps/server_message_tap");

const bytes = (text: string) => new TextEncoder().encode(text);

function message(type: string, body: Uint8Array): number[] {
  const length = body.length + 4;
  return [...bytes(type), length >>> 24, length >>> 16 & 255, length >>> 8 & 255, length & 255, ...body];
}

const ERROR = message(
  "E",
  bytes("SFATAL\0VFATAL\0C57P01\0Mterminating connection\0Dbecause\0Hwait\0Fpostgres.c\0\0"),
);

test("ServerMessageTap finds errors and the end of a copy, wherever the bytes are cut", () => {
  const stream = Uint8Array.from([
    ...message("R", new Uint8Array(4)),
    ...message("C", bytes("SELECT\0")),
    ...message("W", new Uint8Array(3)),
    ...message("d", bytes("E\0\0\0\x10 this is no error, and long enough to hold one")),
    ...message("d", new Uint8Array(0)),
    ...message("C", bytes("COPY 0\0")),
    ...ERROR,
  ]);
  for (let cut = 0; cut <= stream.length; cut++) {
    for (const step of [stream.length, 1, 7]) {
      const tap = new ServerMessageTap();
      tap.push(stream.subarray(0, cut));
      for (let at = cut; at < stream.length; at += step) {
        tap.push(stream.subarray(at, Math.min(at + step, stream.length)));
      }
      assert.equal(tap.error, {
        severity: "FATAL",
        code: "57P01",
        message: "terminating connection",
        detail: "because",
        hint: "wait",
      });
      assert.ok(tap.copyCompleted);
    }
  }
});

test("ServerMessageTap sees no end of a copy before there is one, and survives nonsense", () => {
  const tap = new ServerMessageTap();
  tap.push(Uint8Array.from([...message("C", bytes("SELECT 1\0")), ...message("W", new Uint8Array(3))]));
  assert.not(tap.copyCompleted);
  tap.push(Uint8Array.from([0x45, 0xff, 0xff, 0xff, 0xff])); // an error of 4 GiB is not kept
  tap.push(new Uint8Array(100_000));
  assert.is(tap.error, null);
  const other = new ServerMessageTap();
  other.push(Uint8Array.from([0x45, 0, 0, 0, 0, ...message("E", bytes("Mno end"))])); // lengths that cannot be
  assert.is(other.error!.message, "no end");
});

test.run();
