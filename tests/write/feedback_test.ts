import { lsn, lsnFromHalves } from "../../src/lsn.ts";
import { encodeNeonFeedback, encodeStandbyStatus, POSTGRES_EPOCH_MS } from "../../src/write/feedback.ts";
import { assert, suite } from "../support/harness.ts";

const test = suite("write/feedback");

const positions = {
  received: lsnFromHalves(0x16, 0xb3748010),
  flushed: lsnFromHalves(0x16, 0xb3740000),
  applied: lsn(0xffff_ffff),
};

test("encodeStandbyStatus() writes the documented 34 bytes", () => {
  const message = encodeStandbyStatus(positions, POSTGRES_EPOCH_MS + 1.001);
  assert.is(
    message.toHex(),
    "72" + "00000016b3748010" + "00000016b3740000" + "00000000ffffffff" + "00000000000003e9" + "00",
  );
  assert.is(encodeStandbyStatus(positions, POSTGRES_EPOCH_MS, true)[33], 1);
  const before2000 = encodeStandbyStatus(positions, POSTGRES_EPOCH_MS - 1);
  assert.is(before2000.subarray(25, 33).toHex(), "fffffffffffffc18");
});

test("encodeStandbyStatus() carries the clock to the millisecond", () => {
  const now = 1_795_364_934_306;
  const clock = new DataView(encodeStandbyStatus(positions, now).buffer).getBigInt64(25);
  assert.is(Number(clock / 1000n) + POSTGRES_EPOCH_MS, now);
});

test("encodeNeonFeedback() writes the layout of the original, entry by entry", () => {
  const message = encodeNeonFeedback(positions, POSTGRES_EPOCH_MS + 5, 0x1234_5678_9abc);
  const entry = (name: string, value: string) =>
    new TextEncoder().encode(name).toHex() + "00" + "00000008" + value;
  const body = "05" +
    entry("current_timeline_size", "0000123456789abc") +
    entry("ps_writelsn", "00000016b3748010") +
    entry("ps_flushlsn", "00000016b3740000") +
    entry("ps_applylsn", "00000000ffffffff") +
    entry("ps_replytime", "0000000000001388");
  assert.is(message.toHex(), "7a" + (body.length / 2).toString(16).padStart(16, "0") + body);
});

test("encodeNeonFeedback() is read back by the rules of a safekeeper", () => {
  const message = encodeNeonFeedback(positions, POSTGRES_EPOCH_MS, 42);
  const view = new DataView(message.buffer);
  assert.is(Number(view.getBigUint64(1)), message.length - 9);
  const values = new Map<string, bigint>();
  let at = 10;
  for (let left = message[9]; left > 0; left--) {
    const end = message.indexOf(0, at);
    const name = new TextDecoder().decode(message.subarray(at, end));
    assert.is(view.getInt32(end + 1), 8);
    values.set(name, view.getBigInt64(end + 5));
    at = end + 13;
  }
  assert.is(at, message.length);
  assert.is(values.get("current_timeline_size"), 42n);
  assert.is(values.get("ps_writelsn"), BigInt(positions.received));
  assert.is(values.get("ps_replytime"), 0n);
});

test.run();
