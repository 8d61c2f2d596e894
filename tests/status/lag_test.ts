/** Seconds behind, from positions that the server told. */
import { lsn } from "../../src/lsn.ts";
import { LagMeter } from "../../src/status/lag.ts";
import { assert, suite } from "../support/harness.ts";
import { seededRandom } from "../support/random.ts";

const test = suite("status/lag");

test("seconds() is the age of the oldest position that is not processed", () => {
  const meter = new LagMeter();
  meter.observe(1000, lsn(100), lsn(100));
  assert.is(meter.seconds(5000, lsn(100)), 0);
  meter.observe(5000, lsn(200), lsn(100));
  meter.observe(7000, lsn(300), lsn(100));
  assert.is(meter.seconds(9000, lsn(100)), 4);
  assert.is(meter.seconds(9000, lsn(199)), 4);
  assert.is(meter.seconds(9000, lsn(200)), 2);
  assert.is(meter.seconds(9000, lsn(300)), 0);
});

test("seconds() is not moved by the server telling the same again", () => {
  const meter = new LagMeter();
  meter.observe(0, lsn(200), lsn(100));
  for (let now = 0; now < 60_000; now += 1000) meter.observe(now, lsn(200), lsn(100));
  assert.is(meter.seconds(60_000, lsn(100)), 60);
});

test("seconds() stays near the truth however many positions come", () => {
  const random = seededRandom("status lag");
  const meter = new LagMeter();
  const told: { now: number; walEnd: number }[] = [];
  let [now, walEnd, processed] = [0, 0, 0];
  for (let i = 0; i < 20_000; i++) {
    now += random.int(0, 40);
    walEnd += random.int(1, 100);
    if (i % 7 === 0) processed += random.int(0, Math.floor((walEnd - processed) / 50));
    told.push({ now, walEnd });
    meter.observe(now, lsn(walEnd), lsn(processed));
    if (i % 500 !== 499) continue;
    const exact = (now - told.find((sample) => sample.walEnd > processed)!.now) / 1000;
    const got = meter.seconds(now, lsn(processed));
    // Joined neighbours look older than they are, by little against the whole.
    assert.ok(got >= exact && got <= exact + 0.1 + exact * 0.1, `seed ${random.seed}: ${got} for ${exact}`);
  }
});

test.run();
