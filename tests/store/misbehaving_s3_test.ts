/**
 * The S3 store against a server that misbehaves in ways that a real one cannot be made to. The server is a socket:
 * each test writes the bytes of its answers.
 */
import {
  CorruptionError,
  NotFoundError,
  PreconditionFailedError,
  ProtocolError,
  UnavailableError,
  UnsupportedError,
  VarveError,
} from "../../src/errors.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { MinioStore, type MinioStoreOptions } from "../../src/store/minio.ts";
import { assert, suite } from "../support/harness.ts";
import { waitFor } from "../support/wait.ts";
import { keysOf, MiB, pattern, text } from "../suites/object_store_helpers.ts";

const test = suite("store/minio against a misbehaving server", { timeoutMs: 180_000, sanitize: false });

const SECRET = "the-secret-that-nobody-may-see";

interface Answer {
  send(text: string): Promise<void>;
  /** Reads what the client still sends. */
  readMore(): Promise<number | null>;
  close(): void;
}

/** Answers each request as told, once its head has come; then closes, unless `answer` never returns. */
class Server implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #answer: (head: string, answer: Answer) => Promise<void>;
  readonly #open = new Set<Deno.Conn>();
  readonly #served: Promise<void>;
  requests: string[] = [];

  constructor(answer: (head: string, answer: Answer) => Promise<void>) {
    this.#answer = answer;
    this.#served = this.#serve();
  }

  get port(): number {
    return (this.#listener.addr as Deno.NetAddr).port;
  }

  /** Connections that the client has not closed. */
  get open(): number {
    return this.#open.size;
  }

  async #serve(): Promise<void> {
    for await (const connection of this.#listener) {
      this.#open.add(connection);
      this.#converse(connection).catch(() => {}).finally(() => this.#close(connection));
    }
  }

  async #converse(connection: Deno.Conn): Promise<void> {
    const buffer = new Uint8Array(65_536);
    let head = "";
    while (!head.includes("\r\n\r\n")) {
      const count = await connection.read(buffer);
      if (count === null) return;
      head += new TextDecoder("latin1").decode(buffer.subarray(0, count));
    }
    this.requests.push(head);
    await this.#answer(head, {
      send: async (answer) => {
        const bytes = text(answer);
        for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
      },
      readMore: () => connection.read(buffer),
      close: () => this.#close(connection),
    });
    await connection.closeWrite();
    while (await connection.read(buffer) !== null);
  }

  #close(connection: Deno.Conn): void {
    if (this.#open.delete(connection)) connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#open) this.#close(connection);
    await this.#served;
  }
}

function response(status: string, headers: Record<string, string | number>, body = ""): string {
  const lines = Object.entries({ connection: "close", ...headers }).map(([name, value]) =>
    `${name}: ${value}\r\n`
  );
  return `HTTP/1.1 ${status}\r\n${lines.join("")}\r\n${body}`;
}

function failure(status: string, code: string): string {
  const body =
    `<?xml version="1.0"?><Error><Code>${code}</Code><Message>${code} it is, ${SECRET}</Message></Error>`;
  return response(status, { "content-length": body.length, "content-type": "application/xml" }, body);
}

/** A store on a server that gives this answer to every request. */
function against(
  answer: string | ((head: string, answer: Answer) => Promise<void>),
  more: Partial<MinioStoreOptions> = {},
) {
  const server = new Server(typeof answer === "string" ? (_, to) => to.send(answer) : answer);
  const store: ObjectStore = new MinioStore({
    endpoint: `http://127.0.0.1:${server.port}`,
    bucket: "bucket",
    accessKey: "access",
    secretKey: SECRET,
    connectTimeoutMs: 5_000,
    firstByteTimeoutMs: 500,
    idleTimeoutMs: 500,
    ...more,
  });
  return {
    server,
    store,
    async [Symbol.asyncDispose]() {
      await store.close();
      await server[Symbol.asyncDispose]();
    },
  };
}

const hang = () => new Promise<void>(() => {});

async function drain(body: ReadableStream<Uint8Array>): Promise<number> {
  let bytes = 0;
  for await (const piece of body) bytes += piece.length;
  return bytes;
}

function allCalls(store: ObjectStore): (() => Promise<unknown>)[] {
  return [
    () => store.get("a"),
    () => store.getRange("a", 0, 4),
    () => store.getStream("a"),
    () => store.head("a"),
    () => store.put("a", text("x")),
    () => store.put("a", pattern(3 * MiB)),
    () => store.put("a", text("x"), { condition: { ifAbsent: true } }),
    () => store.delete("a"),
    () => keysOf(store, ""),
  ];
}

test("a server that never answers is a time-out, and its connection is closed", async () => {
  await using opened = against(hang);
  for (const call of allCalls(opened.store)) {
    const error = await assert.rejects<UnavailableError>(call, UnavailableError);
    assert.is(error.code, "TIMEOUT");
    assert.match(error.message, /Cannot \w+.*: no answer from 127\.0\.0\.1:\d+ within 500 ms/);
  }
  assert.is(opened.server.requests.length, allCalls(opened.store).length, "nothing was sent twice");
});

test("a server that says nothing to a TLS handshake is a time-out of the connection", async () => {
  await using opened = against(hang);
  const endpoint = `https://127.0.0.1:${opened.server.port}`;
  const store = new MinioStore({
    endpoint,
    bucket: "bucket",
    connectTimeoutMs: 150,
    firstByteTimeoutMs: 5_000,
  });
  const error = await assert.rejects<UnavailableError>(store.get("a"), UnavailableError);
  assert.match(error.message, /no connection to 127\.0\.0\.1:\d+ within 150 ms/);
  await store.close();
});

test("an answer that stops in the middle is a time-out", async () => {
  const head = response("200 OK", { "content-length": 1000, etag: '"e"' }, "the beginning");
  const range = response(
    "206 Partial",
    { "content-length": 1000, "content-range": "bytes 0-999/5000" },
    "the beginning",
  );
  await using opened = against(async (request, answer) => {
    await answer.send(/\r\nrange: /i.test(request) ? range : head);
    await hang();
  });
  const { store } = opened;
  const stream = async () => drain((await store.getStream("a")).body);
  for (
    const call of [
      () => store.get("a"),
      () => store.getRange("a", 0, 1000),
      stream,
      () => keysOf(store, ""),
    ]
  ) {
    const error = await assert.rejects<UnavailableError>(call, UnavailableError);
    assert.match(error.message, /no more of the answer from .* within 500 ms/);
  }
});

test("an answer that is cut is UnavailableError, never a shorter one", async () => {
  const head = response("200 OK", { "content-length": 1000, etag: '"e"' }, "the beginning");
  const range = response(
    "206 Partial",
    { "content-length": 1000, "content-range": "bytes 0-999/5000" },
    "the beginning",
  );
  await using opened = against(async (request, answer) => {
    await answer.send(/\r\nrange: /i.test(request) ? range : head);
  });
  const { store } = opened;
  const stream = async () => drain((await store.getStream("a")).body);
  for (
    const call of [
      () => store.get("a"),
      () => store.getRange("a", 0, 1000),
      stream,
      () => keysOf(store, ""),
    ]
  ) {
    const error = await assert.rejects<UnavailableError>(call, UnavailableError);
    assert.match(error.message, /^Cannot (read object "a" in|list "" in) s3:\/\/bucket/);
  }
});

test("a connection that is closed before the answer is UnavailableError", async () => {
  await using opened = against("");
  for (const call of allCalls(opened.store)) await assert.rejects(call, UnavailableError);
});

test("a stream that nobody reads for a while does not time out", async () => {
  const size = 4 * MiB;
  const body = "x".repeat(size);
  await using opened = against(response("200 OK", { "content-length": size, etag: '"e"' }, body));
  const stream = await opened.store.getStream("a");
  const reader = stream.body.getReader();
  let bytes = (await reader.read()).value!.length;
  const until = performance.now() + 1000; // longer than any limit
  await waitFor(() => performance.now() > until, { what: "time has passed" });
  for (let read = await reader.read(); !read.done; read = await reader.read()) bytes += read.value.length;
  assert.is(bytes, size);
});

test("a stream that nobody reads makes the server wait, and its end makes the server stop", async () => {
  const size = 256 * MiB;
  let sent = 0;
  let ended = false;
  await using opened = against(async (_, answer) => {
    await answer.send(response("200 OK", { "content-length": size, etag: '"e"' }));
    const part = "x".repeat(MiB);
    try {
      for (; sent < size; sent += MiB) await answer.send(part);
    } finally {
      ended = true;
    }
  });
  const reader = (await opened.store.getStream("a")).body.getReader();
  assert.not.ok((await reader.read()).done);
  let before = -1;
  await waitFor(() => {
    const stands = sent === before;
    before = sent;
    return stands;
  }, { what: "the server waits", intervalMs: 100 });
  // What the two sockets hold.
  assert.ok(sent < size / 2, `${sent} bytes`);
  await reader.cancel();
  await waitFor(() => ended && opened.server.open === 0, { what: "the connection is closed" });
  assert.ok(sent < size);
});

test("a stream of a range is of that range, or an error", async () => {
  const range = { offset: 10, length: 1000 };
  const partial = (given: string, body: string) =>
    response("206 Partial", { "content-length": body.length, "content-range": given }, body);
  const cases: [answer: string, kind: new () => Error][] = [
    [response("200 OK", { "content-length": 1000, etag: '"e"' }, "x".repeat(1000)), ProtocolError as never],
    [partial("bytes 0-999/5000", "x".repeat(1000)), ProtocolError as never],
    [partial("bytes 10-499/500", "x".repeat(490)), CorruptionError as never],
    [partial("bytes 10-1009/5000", "x".repeat(990)), CorruptionError as never],
    [
      response("206 Partial", { "content-length": 1000, "content-range": "bytes 10-1009/5000" }, "cut"),
      UnavailableError as never,
    ],
    [failure("404 No", "NoSuchKey"), NotFoundError as never],
    [failure("503 Busy", "SlowDown"), UnavailableError as never],
  ];
  for (const [answer, kind] of cases) {
    await using opened = against(answer);
    await assert.rejects(async () => await drain((await opened.store.getStream("a", { range })).body), kind);
    assert.match(opened.server.requests[0], /\r\nrange: bytes=10-1009\r\n/i);
    await waitFor(() => opened.server.open === 0, { what: "the client has closed its connection" });
  }
});

test("a slow upload that goes on does not time out, one that stops does", async () => {
  const size = 24 * MiB;
  await using slow = against(async (_, answer) => {
    for (let read = 0, pauses = 0; read < size - 70_000;) {
      read += await answer.readMore() ?? 0;
      if (read > pauses * 4 * MiB) {
        pauses++;
        await new Promise((resolve) => setTimeout(resolve, 150)); // more in all than the limit
      }
    }
    await answer.send(response("200 OK", { "content-length": 0, etag: '"e"' }));
  });
  assert.equal(await slow.store.put("a", pattern(size)), { etag: "e" });
  await using stopped = against(hang);
  const error = await assert.rejects<UnavailableError>(
    stopped.store.put("a", pattern(size)),
    UnavailableError,
  );
  assert.is(error.code, "TIMEOUT");
});

test("server errors are UnavailableError, and their connections are free again", async () => {
  for (
    const [status, code] of [
      ["503 Busy", "SlowDown"],
      ["500 Error", "InternalError"],
      ["502 Bad", "BadGateway"],
      ["504 Slow", "GatewayTimeout"],
      ["429 Many", "TooManyRequests"],
      ["408 Slow", "RequestTimeout"],
    ]
  ) {
    await using opened = against(failure(status, code));
    for (const call of allCalls(opened.store)) {
      const error = await assert.rejects<UnavailableError>(call, UnavailableError, `${status} ${code}`);
      assert.match(error.message, `: the server answered with status ${status.slice(0, 3)}`);
      assert.not(Deno.inspect(error, { depth: 10 }).includes(SECRET));
    }
    await waitFor(() => opened.server.open === 0, { what: "the client has closed its connections" });
  }
});

test("a code that asks to try again is UnavailableError whatever the status", async () => {
  await using opened = against(failure("400 Bad", "RequestTimeout"));
  await assert.rejects(opened.store.get("a"), UnavailableError);
  const error = await assert.rejects<VarveError>(opened.store.head("a"), VarveError); // HEAD: no body, no code
  assert.match(error.message, /the server answered with status 400/);
});

test("refusals are told by what can be done about them", async () => {
  const cases: [string, string, new () => Error, string, RegExp][] = [
    ["412 No", "PreconditionFailed", PreconditionFailedError as never, "PRECONDITION_FAILED", /./],
    [
      "409 Conflict",
      "ConditionalRequestConflict",
      PreconditionFailedError as never,
      "PRECONDITION_FAILED",
      /./,
    ],
    ["501 No", "NotImplemented", UnsupportedError as never, "UNSUPPORTED", /lacks a feature/],
    ["403 No", "AccessDenied", VarveError as never, "STORE_DENIED", /AWS_ACCESS_KEY_ID/],
    ["403 No", "RequestTimeTooSkewed", VarveError as never, "STORE_DENIED", /clock/],
    ["400 No", "ExpiredToken", VarveError as never, "STORE_DENIED", /AWS_SESSION_TOKEN/],
    ["400 No", "AuthorizationHeaderMalformed", VarveError as never, "STORE_DENIED", /region/],
    ["301 Elsewhere", "PermanentRedirect", VarveError as never, "STORE_DENIED", /region/],
  ];
  for (const [status, code, type, expected, hint] of cases) {
    await using opened = against(failure(status, code));
    const call = opened.store.put("a", text("x"), { condition: { ifAbsent: true } });
    const error = await assert.rejects<VarveError>(call as Promise<unknown>, type as never);
    assert.is(error.code, expected, code);
    assert.match(error.hint ?? "x", hint, code);
    assert.not(Deno.inspect(error, { depth: 10 }).includes(SECRET));
  }
});

test("a server that ignores the range, or gives another, is ProtocolError", async () => {
  const body = "x".repeat(100);
  for (
    const answer of [
      response("200 OK", { "content-length": 100, etag: '"e"' }, body),
      response("206 Partial", { "content-length": 100, "content-range": "bytes 1-100/1000" }, body),
      response("206 Partial", { "content-length": 100 }, body),
      response("206 Partial", { "content-length": 100, "content-range": "nonsense" }, body),
    ]
  ) {
    await using opened = against(answer);
    await assert.rejects(opened.store.getRange("a", 0, 100), ProtocolError);
  }
});

test("a range that is shorter or longer than announced is CorruptionError", async () => {
  for (const body of ["x".repeat(99), "x".repeat(101)]) {
    const headers = { "content-length": body.length, "content-range": "bytes 0-99/1000" };
    await using opened = against(response("206 Partial", headers, body));
    await assert.rejects(opened.store.getRange("a", 0, 100), CorruptionError);
  }
  const short = { "content-length": 50, "content-range": "bytes 0-49/50" };
  await using opened = against(response("206 Partial", short, "x".repeat(50)));
  await assert.rejects(opened.store.getRange("a", 0, 100), CorruptionError);
});

test("an answer without what must be in it is ProtocolError", async () => {
  const page = (contents: string) =>
    `<ListBucketResult><IsTruncated>false</IsTruncated>${contents}</ListBucketResult>`;
  const object = (key: string, size: string) =>
    `<Contents><Key>${key}</Key><Size>${size}</Size><ETag>e</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>`;
  for (
    const body of [
      "",
      "<html>",
      page(object("a", "-1")),
      page(object("a", "1e99")),
      page(object("%zz", "1")),
      page("<Contents></Contents>"),
    ]
  ) {
    await using opened = against(response("200 OK", { "content-length": body.length, etag: '"e"' }, body));
    await assert.rejects(keysOf(opened.store, ""), ProtocolError, body);
  }
  await using bare = against(response("200 OK", { "content-length": 1 }, "x"));
  for (
    const call of [
      () => bare.store.get("a"),
      () => bare.store.put("a", text("x")),
      () => bare.store.head("a"),
    ]
  ) {
    await assert.rejects(call, ProtocolError);
  }
});

test("a document without end is not read for ever", async () => {
  await using opened = against(async (_, answer) => {
    await answer.send(response("200 OK", {}, "<ListBucketResult>"));
    for (const filler = "<Contents>".repeat(10_000);;) await answer.send(filler);
  });
  await assert.rejects(keysOf(opened.store, ""), ProtocolError);
  await waitFor(() => opened.server.open === 0, { what: "the client has closed its connection" });
});

test("a completion that fails behind status 200 is an error, and the upload is aborted", async () => {
  const xml = (body: string) => response("200 OK", { "content-length": body.length, etag: '"part"' }, body);
  const wrong =
    "\n\n<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>";
  await using opened = against(async (head, answer) => {
    let body = 0;
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0) -
      (head.length - head.indexOf("\r\n\r\n") - 4);
    while (body < length) body += await answer.readMore() ?? length;
    if (head.startsWith("POST") && head.includes("?uploads")) {
      return await answer.send(xml("<R><UploadId>u1</UploadId></R>"));
    }
    await answer.send(head.startsWith("POST") ? xml(wrong) : xml(""));
  }, { partSize: 5 * MiB, singlePutLimit: MiB });
  const error = await assert.rejects<UnavailableError>(
    opened.store.put("a", pattern(6 * MiB)),
    UnavailableError,
  );
  assert.match(error.message, /InternalError/);
  const methods = opened.server.requests.map((head) => head.split(" ").slice(0, 2).join(" "));
  assert.is(methods.filter((line) => line.startsWith("PUT")).length, 2);
  assert.match(methods[methods.length - 1], /^DELETE \/bucket\/a\?uploadId=u1/);
});

test("options that cannot be right are TypeErrors that show no secret", () => {
  for (
    const endpoint of [
      "",
      "localhost:9000",
      "ftp://x",
      "http://user:hush@host",
      "http://host/path",
      "http://host?x=hush",
    ]
  ) {
    const error = assert.raises(() => new MinioStore({ endpoint, bucket: "bucket" }), TypeError);
    assert.not(error.message.includes("hush"));
  }
  for (const prefix of ["/a", "a/", "a b", ".."]) {
    assert.raises(() => new MinioStore({ endpoint: "http://host", bucket: "bucket", prefix }), TypeError);
  }
});

test.run();
