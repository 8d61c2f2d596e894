/**
 * Verification and page histories from the command line, as child processes.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { formatLsn } from "../../src/lsn.ts";
import { bendHintImage } from "../support/bent_layer.ts";
import { testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temp.ts";
import { type VerifiedWal, verifiedWal } from "../support/verified_wal.ts";
import { varve, type VarveResult } from "./varve_process.ts";

const test = suite("cli/verify", { timeoutMs: 240_000, sanitize: false });

let wal: VerifiedWal;
let directory: TemporaryDirectory;
let store: string;

test.before(async () => {
  directory = await temporaryDirectory("cli-verify");
  store = `file://${directory.path}/store?fsync=off`;
  wal = await verifiedWal(16);
});

test.after(async () => {
  await wal?.cluster.dispose();
  await directory?.remove();
});

function ended(result: VarveResult, code: number): VarveResult {
  assert.is(result.code, code, result.stderr);
  return result;
}

test("varve import --verify judges all images, prints the table, and ends with 0", async () => {
  const args = ["import", "--base", wal.base, "--wal", wal.wal, "--store", store, "--verify"];
  const { stdout } = ended(await varve([...args, "--until", formatLsn(await middleLsn())]), 0);
  assert.match(stdout, /^verified +records +pages +positions +differences +unsupported +unread$/m);
  assert.match(stdout, /^Heap\/INSERT +\d{3,} +\d{3,} +\d+ +0 +0 +0$/m);
  assert.match(stdout, /^total +\d{4,} +\d{4,} +\d+ +0 +0 +0$/m);
  const more = ended(await varve([...args, "--json", "--verify=0.5"]), 0);
  const { verification } = JSON.parse(more.stdout);
  assert.is(verification.rate, 0.5);
  assert.is(verification.differences, 0);
  assert.ok(verification.pages > 1000, `${verification.pages} pages compared`);
  assert.is(verification.passedBytes, 0, "an import waits for the judge");
  assert.ok(verification.types["Btree/INSERT_LEAF"].pages > 100);
});

/** Half-way through the WAL: what is imported in two goes is judged in both. */
async function middleLsn() {
  const { stdout } = ended(await varve(["waldump", wal.wal, "--stats", "--json"]), 0);
  const { startLsn, endLsn } = JSON.parse(stdout);
  const [from, to] = [startLsn, endLsn].map((text: string) => parseInt(text.split("/")[1], 16));
  return from + (to - from) / 2 as never;
}

test("varve verify reads a store through, and ends with 0", async () => {
  const { stdout } = ended(await varve(["verify", "--store", store]), 0);
  assert.match(stdout, /^\d+ layers?, .* values read in .*; checksums, order and headers of all are right$/m);
  assert.match(stdout, /^XLOG\/FPI_FOR_HINT +\d+ +\d+ +0 +0 +0 +0$/m);
  const json = JSON.parse(
    ended(await varve(["verify", "--store", store, "--sample", "10%", "--json"]), 0).stdout,
  );
  assert.is(json.rate, 0.1);
  assert.is(json.differences, 0);
  assert.ok(json.layers > 0 && json.entries > 1000);
  const usage = ended(await varve(["verify", "--store", store, "--sample", "2"]), 2);
  assert.match(usage.stderr, /Cannot use --sample: "2" is no share/);
});

test("varve page --history lists what touched a page, oldest or newest first", async () => {
  const rel = `1663/5/${wal.rel}`;
  const args = ["page", "--store", store, "--rel", rel, "--block", "0", "--history"];
  const { stdout } = ended(await varve([...args, "--oldest-first", "--limit", "4"]), 0);
  const lines = stdout.trimEnd().split("\n");
  assert.is(lines.length, 4);
  assert.match(stdout, /^0\/[0-9A-F]+ +xid \d+ +Heap\/INSERT +row inserted; off \d+, flags 0x00$/m);
  const { events } = JSON.parse(ended(await varve([...args, "--json"]), 0).stdout);
  assert.is(events.at(-1).opcode, "INSERT+INIT");
  assert.ok(events.some(({ kind }: { kind: string }) => kind === "image"));
  const [{ lsn: to }, { lsn: from }] = [events[3], events[7]];
  const part = JSON.parse(ended(await varve([...args, "--from", from, "--to", to, "--json"]), 0).stdout);
  assert.equal(part.events, events.slice(3, 8));
});

test("varve verify ends with 1 when a layer was bent, says where, and saves both pages", async () => {
  const opened = await testStore(directory.join("store"));
  const bent = await bendHintImage(opened, systemClock, wal.rel);
  await opened.close();
  const saved = directory.join("pairs");
  const args = ["verify", "--store", store, "--verify-dir", saved];
  const { stdout, stderr } = ended(await varve(args), 1);
  const where = `relation 1663/5/${wal.rel}/0 block ${bent.key.block}`;
  const told = `XLOG/FPI_FOR_HINT at ${
    formatLsn(bent.lsn)
  }, ${where}: the page differs first at offset ${bent.offset}`;
  assert.ok(stderr.includes(told), `${told} is in ${stderr}`);
  assert.match(stdout, /^DIFFERENCE at /m);
  const name = `${formatLsn(bent.lsn)}_${where}`.replace(/[^\w.]+/g, "-");
  const redo = await Deno.readFile(`${saved}/${name}.redo`);
  const postgres = await Deno.readFile(`${saved}/${name}.postgres`);
  assert.is(redo.length, 8192);
  assert.is(redo[bent.offset] ^ postgres[bent.offset], 0x5a);
});

test.run();
