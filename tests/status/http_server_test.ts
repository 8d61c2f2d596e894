/** Serving: where it listens, and that closing leaves nothing behind. */
import { serveHttp } from "../../src/deps/http_server.ts";
import { createStatusApp } from "../../src/status/app.ts";
import { StatusBoard } from "../../src/status/board.ts";
import { assert, suite } from "../support/harness.ts";
import { ManualClock } from "../support/manual_clock.ts";

const test = suite("status/http server");

test("serveHttp() serves the status app on loopback", async () => {
  const app = createStatusApp({ board: new StatusBoard({ clock: new ManualClock() }) });
  await using server = await serveHttp(app.fetch);
  assert.match(server.url, /^http:\/\/127\.0\.0\.1:\d+$/);
  const answer = await fetch(`${server.url}/readyz`);
  assert.is(answer.status, 503);
  assert.is((await answer.json()).error.code, "STARTING");
  const page = await fetch(`${server.url}/`);
  assert.match(await page.text(), "<title>varve</title>");
});

test("close() answers what is under way, then refuses", async () => {
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  const { promise: arrived, resolve: arrive } = Promise.withResolvers<void>();
  const server = await serveHttp(async () => {
    arrive();
    await gate;
    return new Response("done");
  });
  const answer = fetch(server.url).then((response) => response.text());
  await arrived;
  const closed = server.close();
  assert.is(server.close(), closed);
  open();
  assert.is(await answer, "done");
  await closed;
  await assert.rejects(fetch(server.url));
});

test("close() does not wait for idle connections, nor for ever for answers", async () => {
  const { promise: arrived, resolve: arrive } = Promise.withResolvers<void>();
  const server = await serveHttp((request) => {
    if (new URL(request.url).pathname === "/quick") return new Response("quick");
    arrive();
    return new Promise<Response>(() => {});
  }, { closeLimitMs: 50 });
  assert.is(await (await fetch(`${server.url}/quick`)).text(), "quick");
  const stuck = fetch(server.url).then(() => "answered", () => "cut");
  await arrived;
  await server.close();
  assert.is(await stuck, "cut");
});

test("the signal closes the server", async () => {
  const controller = new AbortController();
  const server = await serveHttp(() => new Response("here"), { signal: controller.signal });
  assert.is(await (await fetch(server.url)).text(), "here");
  controller.abort();
  await server.close();
  await assert.rejects(fetch(server.url));
  await assert.rejects(serveHttp(() => new Response(), { signal: controller.signal }), /abort/i);
});

test("serveHttp() rejects when the port is taken", async () => {
  await using server = await serveHttp(() => new Response());
  const error = await assert.rejects(serveHttp(() => new Response(), { port: server.port }));
  assert.is((error as Error & { code?: string }).code, "EADDRINUSE");
});

test.run();
