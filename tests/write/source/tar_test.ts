import { postgresSource } from "../../../src/deps/postgres_source.ts";
import { CorruptionError, UnavailableError } from "../../../src/errors.ts";
import { readTar } from "../../../src/write/source/tar.ts";
import { assert, suite } from "../../support/harness.ts";
import { seededRandom } from "../../support/random.ts";

const test = suite("write/source/tar");

const encoder = new TextEncoder();
const END = new Uint8Array(1024);

interface Options {
  type?: string;
  size?: number;
  base256?: boolean;
  link?: string;
  magic?: string;
  prefix?: string;
}

/** A header as PostgreSQL's tarCreateHeader() writes it, and content padded to whole blocks. */
function entry(name: string, content: Uint8Array | string = "", options: Options = {}): Uint8Array {
  const body = typeof content === "string" ? encoder.encode(content) : content;
  const size = options.size ?? body.length;
  const blocks = new Uint8Array(512 + Math.ceil(body.length / 512) * 512);
  const put = (at: number, text: string) => blocks.set(encoder.encode(text), at);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
  put(0, name);
  put(100, octal(0o600, 7) + " ");
  put(108, octal(101, 7) + " ");
  put(116, octal(101, 7) + " ");
  if (options.base256) {
    new DataView(blocks.buffer).setBigUint64(128, BigInt(size));
    blocks[124] = 0x80;
  } else {
    put(124, octal(size, 11) + " ");
  }
  put(136, octal(1_700_000_000, 11) + " ");
  put(148, "        ");
  put(156, options.type ?? "0");
  put(157, options.link ?? "");
  put(257, options.magic ?? "ustar\x0000");
  put(345, options.prefix ?? "");
  put(148, octal(blocks.subarray(0, 512).reduce((sum, byte) => sum + byte, 0), 6) + "\0 ");
  blocks.set(body, 512);
  return blocks;
}

function join(...parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function inPieces(bytes: Uint8Array, size: () => number): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      const end = Math.min(bytes.length, at + size());
      controller.enqueue(bytes.subarray(at, end));
      at = end;
    },
  }, { highWaterMark: 0 });
}

/** Every entry with its content; `pick` says which bodies to read. */
async function readAll(bytes: Uint8Array, size = () => 32768, pick = (_: string) => true) {
  const found: [string, string, number, string][] = [];
  for await (
    const { path, type, size: announced, body } of readTar(
      inPieces(bytes, size),
      postgresSource.untar,
      "t.tar",
    )
  ) {
    const text = pick(path) ? await new Response(ReadableStream.from(body)).text() : "";
    found.push([path, type, announced, text]);
  }
  return found;
}

const pax = (key: string, value: string) => {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (`${length}${rest}`.length !== length) length++;
  return `${length}${rest}`;
};

test("readTar() reads what PostgreSQL writes, and long names of other writers", async () => {
  const long = `${"d".repeat(90)}/${"f".repeat(150)}`;
  const archive = join(
    entry("backup_label", "START WAL LOCATION"),
    entry("base/", "", { type: "5" }),
    entry("base/1/16384", "x".repeat(1000)),
    entry("pg_tblspc/16385", "", { type: "2", link: "/spc" }),
    entry("empty"),
    entry("large", "tiny", { base256: true }),
    entry("PaxHeader", pax("path", long) + pax("size", "3"), { type: "x" }),
    entry("shortened", "pax", { size: 3 }),
    entry("././@LongLink", `${long}2\0`, { type: "L" }),
    entry("shortened", "gnu"),
    entry("name", "prefixed", { prefix: "some/where" }),
    END,
    new Uint8Array(4096),
  );
  const expected = [
    ["backup_label", "file", 18, "START WAL LOCATION"],
    ["base", "directory", 0, ""],
    ["base/1/16384", "file", 1000, "x".repeat(1000)],
    ["pg_tblspc/16385", "symlink", 0, ""],
    ["empty", "file", 0, ""],
    ["large", "file", 4, "tiny"],
    [long, "file", 3, "pax"],
    [`${long}2`, "file", 3, "gnu"],
    ["some/where/name", "file", 8, "prefixed"],
  ];
  for (const size of [1, 7, 511, 512, 513, 100_000]) {
    assert.equal(await readAll(archive, () => size), expected);
  }
  const unread = await readAll(archive, () => 700, () => false);
  assert.equal(unread.map(([path]) => path), expected.map(([path]) => path));
});

test("readTar() with random sizes, pieces and skipped bodies gives every entry once", async () => {
  const random = seededRandom("write/source/tar");
  for (let round = 0; round < 30; round++) {
    const contents = Array.from(
      { length: 40 },
      () => random.text(random.pick([0, 1, 511, 512, 513, 8192, 70_000])),
    );
    const archive = join(...contents.map((content, index) => entry(`f${index}`, content)), END);
    const isRead = contents.map(() => random.chance(0.6));
    const found = await readAll(
      archive,
      () => random.int(1, 40_000),
      (path) => isRead[Number(path.slice(1))],
    );
    assert.equal(
      found.map(([path, , size]) => [path, size]),
      contents.map((text, index) => [`f${index}`, text.length]),
    );
    for (const [index, [, , , text]] of found.entries()) if (isRead[index]) assert.is(text, contents[index]);
  }
});

test("readTar() refuses archives that are damaged, incomplete or not PostgreSQL's", async () => {
  const good = join(entry("a", "x".repeat(2000)), entry("b", "y"), END);
  for (let cut = 0; cut < good.length - 1; cut += 100) {
    await assert.rejects(readAll(good.subarray(0, cut)), CorruptionError, `cut at ${cut}`);
  }
  const header = new Uint8Array(good);
  header[3]++;
  await assert.rejects(readAll(header), CorruptionError);
  const wrong = [
    entry("a", "", { type: "3" }),
    entry("a", "", { type: "1", link: "b" }),
    entry("../a"),
    entry("/a"),
    entry("a/./b"),
    entry("a//b"),
    entry("PaxHeader", pax("path", "../../x"), { type: "x" }),
  ];
  for (const [index, each] of wrong.entries()) {
    await assert.rejects(readAll(join(each, entry("z"), END)), CorruptionError, `case ${index}`);
  }
});

test("readTar() never hangs on mutated archives", async () => {
  const random = seededRandom("write/source/tar mutations");
  const good = join(
    entry("a", "x".repeat(2000)),
    entry("PaxHeader", pax("path", "p"), { type: "x" }),
    entry("b", "y"),
    END,
  );
  let refused = 0;
  for (let round = 0; round < 2000; round++) {
    const bad = new Uint8Array(good);
    for (let n = random.int(1, 4); n > 0; n--) bad[random.int(0, bad.length - 1)] = random.uint32();
    try {
      await readAll(bad, () => 600);
    } catch (error) {
      assert.instance(error, CorruptionError);
      refused++;
    }
  }
  assert.ok(refused > 500, `${refused} refused`);
});

test("readTar() passes on why its source failed, and lets go of it when the reader stops", async () => {
  const archive = entry("a", "x".repeat(100_000));
  let sent = false;
  const failing = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (sent) throw new UnavailableError("gone");
      sent = true;
      controller.enqueue(archive.subarray(0, 20_000));
    },
  });
  await assert.rejects(async () => {
    for await (const { body } of readTar(failing, postgresSource.untar, "t")) for await (const _ of body);
  }, UnavailableError);
  let cancelled = false;
  const endless = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(archive),
    cancel: () => void (cancelled = true),
  });
  for await (const _ of readTar(endless, postgresSource.untar, "t")) break;
  for (let turn = 0; turn < 100 && !cancelled; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.ok(cancelled);
});

test("an entry's body is read once", async () => {
  const archive = join(entry("a", "abc"), END);
  for await (const { body } of readTar(inPieces(archive, () => 512), postgresSource.untar, "t")) {
    for await (const _ of body);
    await assert.rejects(async () => {
      for await (const _ of body);
    }, TypeError);
  }
});

test.run();
