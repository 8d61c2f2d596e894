/** The status app: routes, tokens, errors, mounting, the page. No server and no socket. */
import { Hono } from "../../src/deps/hono.ts";
import { FencedError } from "../../src/errors.ts";
import { createStatusApp, type StatusAppOptions } from "../../src/status/app.ts";
import { StatusBoard } from "../../src/status/board.ts";
import { assert, suite } from "../support/harness.ts";
import { ManualClock, settle } from "../support/manual_clock.ts";
import { someFollowing, someTimeline } from "./status_support.ts";

const test = suite("status/app");

const SECRET = "hunter2-Very_Secret";

function someApp(options: Partial<StatusAppOptions> = {}) {
  const board = new StatusBoard({ clock: new ManualClock() });
  board.add({ timeline: someTimeline() });
  return { board, app: createStatusApp({ board, ...options }) };
}

// deno-lint-ignore no-explicit-any -- bodies of any shape
async function getJson(app: Hono, path: string, init?: RequestInit): Promise<{ status: number; body: any }> {
  const answer = await app.request(path, init);
  assert.match(answer.headers.get("content-type") ?? "", "application/json");
  return { status: answer.status, body: await answer.json() };
}

test("every path answers with what it is for", async () => {
  const { app } = someApp();
  assert.equal(await getJson(app, "/livez"), { status: 200, body: { status: "alive" } });
  assert.equal(await getJson(app, "/readyz"), { status: 200, body: { status: "ready" } });
  assert.equal(await getJson(app, "/healthz"), { status: 200, body: { status: "ready" } });
  const { body: status } = await getJson(app, "/v1/status");
  assert.is(status.timelines[0].lastRecordLsn, "0/2000000");
  assert.is(status.isReady, true);
  const { body: list } = await getJson(app, "/v1/timelines");
  assert.equal(list.timelines, status.timelines);
  assert.equal((await getJson(app, "/v1/timelines/main")).body, status.timelines[0]);
});

test("/v1/timelines/:name/layers goes page by page", async () => {
  const { app } = someApp();
  const first = (await getJson(app, "/v1/timelines/main/layers?limit=1")).body;
  assert.is(first.total, 2);
  assert.is(first.nextOffset, 1);
  assert.equal(first.layers.map((layer: { name: string }) => layer.name), ["layer-delta"]);
  const second = (await getJson(app, "/v1/timelines/main/layers?limit=1&offset=1")).body;
  assert.is(second.nextOffset, null);
  assert.equal(second.layers.map((layer: { name: string }) => layer.name), ["layer-image"]);
  assert.equal((await getJson(app, "/v1/timelines/main/layers?offset=9")).body.layers, []);
  for (const query of ["limit=-1", "limit=x", "limit=10001", "offset=1.5", "offset=", "offset=0x1"]) {
    const { status, body } = await getJson(app, `/v1/timelines/main/layers?${query}`);
    assert.is(status, 400, query);
    assert.is(body.error.code, "BAD_REQUEST");
  }
});

test("errors are JSON with code, message and hint", async () => {
  const { app } = someApp();
  for (const path of ["/nope", "/v1/nope", "/v1/timelines/other", "/v1/timelines/other/layers", "/metrics"]) {
    const { status, body } = await getJson(app, path);
    assert.is(status, 404, path);
    assert.equal(Object.keys(body.error), ["code", "message", "hint"]);
    assert.is(body.error.code, "NOT_FOUND");
  }
  const posted = await app.request("/v1/status", { method: "POST" });
  assert.is(posted.status, 405);
  assert.is(posted.headers.get("allow"), "GET, HEAD");
  assert.is((await app.request("/v1/status", { method: "HEAD" })).status, 200);
});

test("an error inside tells nothing of the inside", async () => {
  const metrics = {
    contentType: "text/plain",
    metrics: () => Promise.reject(new Error(`at /secret/place with ${SECRET}`)),
  };
  const { status, body } = await getJson(someApp({ metrics }).app, "/metrics");
  assert.is(status, 500);
  assert.is(body.error.code, "INTERNAL");
  assert.not(JSON.stringify(body).includes(SECRET));
});

test("readyz answers 503 with the reason, livez does not care", async () => {
  const { board, app } = someApp();
  const { parts, fail } = someFollowing(someTimeline("followed"));
  board.add(parts);
  const { status, body } = await getJson(app, "/readyz");
  assert.is(status, 503);
  assert.is(body.error.code, "NOT_CONNECTED");
  fail(new FencedError(`Cannot commit to postgres://varve:${SECRET}@db`));
  await settle();
  const fenced = await getJson(app, "/readyz");
  assert.is(fenced.body.error.code, "FENCED");
  assert.match(fenced.body.error.message, "Cannot commit");
  assert.is((await getJson(app, "/livez")).status, 200);
});

test("no path shows a password that came in with a description or an error", async () => {
  const { board, app } = someApp();
  const { parts, fail } = someFollowing(someTimeline("followed"));
  board.add(parts, `postgres://varve:${SECRET}@db.example:5432?password=${SECRET}`);
  fail(new FencedError(`Cannot commit with secret_key=${SECRET}`, { hint: `password=${SECRET}` }));
  await settle();
  const paths = [
    "/",
    "/livez",
    "/readyz",
    "/healthz",
    "/v1/status",
    "/v1/timelines",
    "/v1/timelines/followed",
  ];
  for (const path of paths) {
    const text = await (await app.request(path)).text();
    assert.ok(text.length > 0);
    assert.not(text.includes(SECRET), path);
  }
  assert.is((await getJson(app, "/v1/status")).body.source.description.includes("db.example:5432"), true);
});

test("token protects data, not the page and the probes", async () => {
  const metrics = { contentType: "text/plain", metrics: () => Promise.resolve("varve_x 1\n") };
  const { board, app } = someApp({ token: SECRET, metricsToken: "scraper", metrics });
  const status = async (path: string, authorization?: string) =>
    (await app.request(path, { headers: authorization === undefined ? {} : { authorization } })).status;
  for (const path of ["/v1/status", "/v1/timelines", "/v1/timelines/main", "/v1/timelines/main/layers"]) {
    const refused = [
      undefined,
      "",
      "Bearer",
      "Bearer x",
      `Basic ${SECRET}`,
      `Bearer ${SECRET}x`,
      "Bearer scraper",
    ];
    for (const authorization of refused) {
      assert.is(await status(path, authorization), 401, `${path} with ${authorization}`);
    }
    assert.is(await status(path, `Bearer ${SECRET}`), 200);
    assert.is(await status(path, `bearer ${SECRET}`), 200);
  }
  assert.is(await status("/metrics"), 401);
  assert.is(await status("/metrics", "Bearer scraper"), 200);
  assert.is(await status("/metrics", `Bearer ${SECRET}`), 200);
  for (const path of ["/", "/livez", "/readyz"]) assert.is(await status(path), 200);
  const refusal = await app.request("/v1/status");
  assert.is(refusal.headers.get("www-authenticate"), 'Bearer realm="varve"');
  assert.is((await refusal.json()).error.code, "UNAUTHORIZED");
  board.add(someFollowing(someTimeline("followed")).parts);
  assert.equal((await getJson(app, "/readyz")).body.reasons, [
    { code: "NOT_CONNECTED", message: "Not ready", hint: null },
  ]);
});

test("createStatusApp() refuses tokens that protect nothing", () => {
  const { board } = someApp();
  for (const token of ["", " ", "a b", "ä"]) {
    assert.raises(() => createStatusApp({ board, token }), TypeError);
  }
  assert.raises(() => createStatusApp({ board, metricsToken: "x" }), TypeError);
});

test("mounted under a prefix, all paths move, and the rest of the app stays as it was", async () => {
  const { app: statusApp } = someApp({ token: SECRET });
  const app = new Hono();
  app.route("/varve", statusApp);
  app.get("/mine", (c) => c.text("mine"));
  const authorization = `Bearer ${SECRET}`;
  assert.is((await app.request("/varve/livez")).status, 200);
  assert.is((await app.request("/varve/v1/status")).status, 401);
  const { body } = await getJson(app, "/varve/v1/status", { headers: { authorization } });
  assert.is(body.timelines[0].name, "main");
  const missing = await getJson(app, "/varve/v1/timelines/other", { headers: { authorization } });
  assert.is(missing.body.error.code, "NOT_FOUND");
  for (const path of ["/varve", "/varve/"]) {
    const page = await app.request(path);
    assert.is(page.status, 200, path);
    assert.match(await page.text(), "<!doctype html>");
  }
  assert.is((await app.request("/v1/status")).status, 404);
  assert.is((await app.request("/varve/nope")).status, 404);
});

test("mounted at the root, other routes keep their own headers", async () => {
  const app = new Hono();
  app.route("/", someApp({ token: SECRET }).app);
  app.get("/mine", (c) => c.text("mine"));
  const mine = await app.request("/mine");
  assert.is(await mine.text(), "mine");
  assert.is(mine.headers.get("content-security-policy"), null);
  assert.is((await app.request("/livez")).status, 200);
});

test("the page loads nothing from elsewhere, and its policy names its own style and script", async () => {
  const { app } = someApp();
  const answer = await app.request("/");
  const page = await answer.text();
  const policy = answer.headers.get("content-security-policy") ?? "";
  for (const tag of ["style", "script"]) {
    const inline = page.match(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`))![1];
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(inline));
    assert.match(policy, `${tag}-src 'sha256-${btoa(String.fromCharCode(...new Uint8Array(digest)))}'`);
  }
  assert.match(policy, "default-src 'none'");
  assert.equal(page.match(/\b(src|href|url\()\s*=?/g), null);
  assert.equal(page.match(/https?:\/\/(?!www\.w3\.org\/)/g), null);
  assert.not(/innerHTML|insertAdjacentHTML|document\.write/.test(page), "data are never markup");
  const script = page.match(/<script>([\s\S]*?)<\/script>/)![1];
  assert.type(new Function(script), "function", "the script parses");
});

test("data are not to be cached, sniffed or framed", async () => {
  const { headers } = await someApp().app.request("/v1/status");
  assert.is(headers.get("cache-control"), "no-store");
  assert.is(headers.get("x-content-type-options"), "nosniff");
  assert.match(headers.get("content-security-policy") ?? "", "frame-ancestors 'none'");
});

test.run();
