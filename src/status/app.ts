/**
 * The status endpoint: a Hono app over a {@linkcode StatusBoard}, to serve alone or to mount in an app of one's own.
 *
 * ```
 * GET /                               a page for people
 * GET /livez                          200 while the process answers
 * GET /readyz, /healthz               200 when ready, else 503 with the reasons
 * GET /v1/status                      everything: version, source, connection, lag, timelines
 * GET /v1/timelines                   positions and sizes of all timelines
 * GET /v1/timelines/:name             of one
 * GET /v1/timelines/:name/layers      its layer files, newest first; layers_api.ts has what can be done with them
 * GET /metrics                        Prometheus text, if metrics were given
 * ```
 * Errors are `{ error: { code, message, hint } }`. Nothing here changes
 * anything but which layers have a local copy, and no secret is shown.
 *
 * @module
 */
import { type Context, Hono, type MiddlewareHandler } from "../deps/hono.ts";
import { type Authorizer, bearerAuthorizer, EVERYBODY } from "./auth.ts";
import type { StatusBoard } from "./board.ts";
import { errorResponse, type ErrorSnapshot } from "./error_body.ts";
import { PAGE, pagePolicy } from "./page.ts";
import { addLayersApi } from "./layers_api.ts";
import { snapshotTimeline } from "./snapshot.ts";

export { StatusBoard, type StatusBoardOptions } from "./board.ts";
export type { TimelineParts } from "./watched_timeline.ts";

/** Metrics that can be written down: `VarveMetrics`, or any registry of prom-client's kind. */
export interface MetricsText {
  readonly contentType: string;
  metrics(): Promise<string>;
}

export interface StatusAppOptions {
  board: StatusBoard;
  /** Served under `/metrics`. Without it there is no such path. */
  metrics?: MetricsText;
  /** Asked for as `Authorization: Bearer …` by all but the page, which shows nothing by itself, and the probes. */
  token?: string;
  /** Opens `/metrics` too, and nothing else: for the scraper. */
  metricsToken?: string;
}

/** Makes the app. `app.route("/varve", createStatusApp({ board }))` mounts it. */
export function createStatusApp(options: StatusAppOptions): Hono {
  const { board, metrics, token, metricsToken } = options;
  if (metricsToken !== undefined && token === undefined) {
    throw new TypeError("Cannot use metricsToken alone: expected a token for the rest too");
  }
  const authorized = token === undefined ? EVERYBODY : bearerAuthorizer(token);
  const mayScrape = metricsToken === undefined ? authorized : bearerAuthorizer(token!, metricsToken);
  const app = new Hono();
  // By path, not for all: mounted at the root of another app, this one's rules must not reach that one's pages.
  for (const path of ["/livez", "/readyz", "/healthz", "/metrics", "/v1/*"]) app.use(path, securityHeaders);
  app.use("/v1/*", requiring(authorized));
  app.use("/metrics", requiring(mayScrape));
  addPage(app);
  addProbes(app, board, authorized);
  addApi(app, board);
  if (metrics !== undefined) {
    app.get("/metrics", async (c) => {
      const text = await metrics.metrics();
      return c.body(text, 200, { "content-type": metrics.contentType });
    });
  }
  app.all("/:path{livez|readyz|healthz|metrics|v1/.+}", (c) => {
    if (c.req.method === "GET") return failed(c, 404, notFound(c));
    c.header("allow", "GET, HEAD");
    return failed(c, 405, {
      code: "METHOD_NOT_ALLOWED",
      message: `Cannot ${c.req.method} here: expected GET`,
      hint: null,
    });
  });
  app.notFound((c) => failed(c, 404, notFound(c)));
  app.onError((error, c) => {
    const { status, body } = errorResponse(error);
    return failed(c, status, body.error);
  });
  return app;
}

function addPage(app: Hono): void {
  const page = async (c: Context) => {
    c.header("content-security-policy", await pagePolicy());
    return c.html(PAGE);
  };
  app.get("/", securityHeaders, page);
  // Mounted under /varve, the line above is /varve and this one /varve/.
  app.get("/*", (c, next) => c.req.path === c.req.routePath.slice(0, -1) ? page(c) : next());
}

function addProbes(app: Hono, board: StatusBoard, authorized: Authorizer): void {
  app.get("/livez", (c) => c.json({ status: "alive" }));
  const ready = async (c: Context) => {
    const reasons = await board.reasonsNotReady();
    if (reasons.length === 0) return c.json({ status: "ready" });
    // A prober without token learns what is the matter, but no names.
    const isOpen = await authorized(c.req.header("authorization"));
    const shown = isOpen ? reasons : reasons.map(({ code }) => ({ code, message: "Not ready", hint: null }));
    return c.json({ status: "not ready", error: shown[0], reasons: shown }, 503);
  };
  app.get("/readyz", ready);
  app.get("/healthz", ready);
}

function addApi(app: Hono, board: StatusBoard): void {
  app.get("/v1/status", async (c) => c.json(await board.snapshot()));
  app.get("/v1/timelines", (c) => c.json({ timelines: board.timelines().map(snapshotTimeline) }));
  app.get("/v1/timelines/:name", (c) => c.json(snapshotTimeline(board.timeline(c.req.param("name")))));
  addLayersApi(app, board);
}

/** Nothing of this is to be kept, framed, guessed at or sent elsewhere. */
const securityHeaders: MiddlewareHandler = async (c, next) => {
  await next();
  const { headers } = c.res;
  headers.set("cache-control", "no-store");
  headers.set("x-content-type-options", "nosniff");
  headers.set("referrer-policy", "no-referrer");
  if (!headers.has("content-security-policy")) {
    headers.set("content-security-policy", "default-src 'none'; frame-ancestors 'none'");
  }
};

function requiring(authorized: Authorizer): MiddlewareHandler {
  return async (c, next) => {
    if (await authorized(c.req.header("authorization"))) return await next();
    c.header("www-authenticate", 'Bearer realm="varve"');
    return failed(c, 401, {
      code: "UNAUTHORIZED",
      message: "Cannot show this: a valid token is missing",
      hint: "Send the header `Authorization: Bearer …` with the token that varve was started with.",
    });
  };
}

function failed(c: Context, status: 401 | 404 | 405 | 409 | 500 | 503, error: ErrorSnapshot): Response {
  return c.json({ error }, status);
}

function notFound(c: Context): ErrorSnapshot {
  return {
    code: "NOT_FOUND",
    message: `Cannot show ${c.req.path}: there is nothing`,
    hint: "GET /v1/status shows everything.",
  };
}
