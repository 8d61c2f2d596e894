/**
 * The routes of the status endpoint that concern layer files: to list them, and to say what is local.
 *
 * ```
 * GET    /v1/timelines/:name/layers                  newest first (?offset=0&limit=1000)
 * POST   /v1/timelines/:name/layers/:layer/download  makes one resident; answers when it is
 * POST   /v1/timelines/:name/layers/:layer/evict     removes its local copy
 * POST   /v1/timelines/:name/download                starts to download all: 202; 200 if that runs already
 * GET    /v1/timelines/:name/download                how that stands
 * DELETE /v1/timelines/:name/download                ends it
 * POST   /v1/timelines/:name/evict                   removes all local copies
 * ```
 * Nothing of this can lose data: local copies are a cache. The routes ask for the same token as the others, and refuse what
 * a page of another site makes a browser send.
 *
 * @module
 */
import type { Context, Hono } from "../deps/hono.ts";
import { NotFoundError, VarveError } from "../errors.ts";
import { parseLayerName } from "../layer/layer_name.ts";
import { DownloadTask } from "../read/download_all.ts";
import type { StatusBoard } from "./board.ts";
import { describeError, type ErrorSnapshot } from "./error_body.ts";
import { snapshotLayer, snapshotLayers } from "./snapshot.ts";
import type { TimelineParts, WatchedTimeline } from "./watched_timeline.ts";

/** Layers in one answer. */
const LAYERS_DEFAULT = 1000;
const LAYERS_MAX = 10_000;

/** A download of all layers. */
export interface DownloadSnapshot {
  readonly state: "running" | "completed" | "cancelled";
  readonly totalLayers: number;
  readonly totalBytes: number;
  /** Layers that are resident, those included that were before. */
  readonly doneLayers: number;
  readonly doneBytes: number;
  readonly failedLayers: number;
  /** Why the last one failed. */
  readonly failure: ErrorSnapshot | null;
}

/** Adds the routes. */
export function addLayersApi(app: Hono, board: StatusBoard): void {
  app.get("/v1/timelines/:name/layers", (c) => {
    const watched = board.timeline(c.req.param("name"));
    const offset = wholeNumber(c.req.query("offset"), 0, Number.MAX_SAFE_INTEGER);
    const limit = wholeNumber(c.req.query("limit"), LAYERS_DEFAULT, LAYERS_MAX);
    if (offset === undefined || limit === undefined) {
      const message =
        `Cannot list layers: expected whole numbers as offset and limit, limit up to ${LAYERS_MAX}`;
      return c.json({ error: { code: "BAD_REQUEST", message, hint: null } }, 400);
    }
    const total = watched.parts.timeline.layers.count;
    const layers = snapshotLayers(watched, offset, limit);
    const next = offset + layers.length;
    return c.json({ total, offset, nextOffset: next < total && layers.length > 0 ? next : null, layers });
  });
  app.use("/v1/timelines/:name/*", async (c, next) => {
    const site = c.req.header("sec-fetch-site");
    const isForeign = site !== undefined && site !== "same-origin" && site !== "none";
    if (c.req.method === "GET" || c.req.method === "HEAD" || !isForeign) return await next();
    const message = "Cannot change anything for a page of another site";
    return c.json({ error: { code: "FORBIDDEN", message, hint: null } }, 403);
  });
  app.post("/v1/timelines/:name/layers/:layer/download", async (c) => {
    const { layer, files } = localLayer(board, c);
    await files.download(layer, { signal: c.req.raw.signal });
    return c.json({ layer: snapshotLayer(layer, files) });
  });
  app.post("/v1/timelines/:name/layers/:layer/evict", async (c) => {
    const { layer, files } = localLayer(board, c);
    const outcome = await files.evict(layer.name);
    return c.json({ outcome, layer: snapshotLayer(layer, files) });
  });
  app.post("/v1/timelines/:name/download", (c) => {
    const { watched, files } = withFiles(board, c);
    if (watched.downloadTask?.state === "running") return c.json(snapshotDownload(watched.downloadTask));
    const task = new DownloadTask(files, watched.parts.timeline.layers.layers());
    watched.downloadTask = task;
    return c.json(snapshotDownload(task), 202);
  });
  app.get("/v1/timelines/:name/download", (c) => c.json(snapshotDownload(taskOf(board, c))));
  app.delete("/v1/timelines/:name/download", async (c) => {
    const task = taskOf(board, c);
    task.cancel();
    await task.ended;
    return c.json(snapshotDownload(task));
  });
  app.post("/v1/timelines/:name/evict", async (c) => {
    const { watched, files } = withFiles(board, c);
    const outcomes = { evicted: 0, "not resident": 0, "not durable": 0 };
    for (const { name } of watched.parts.timeline.layers.layers()) outcomes[await files.evict(name)]++;
    return c.json({ evictedLayers: outcomes.evicted, residentPhysicalSizeBytes: files.residentBytes });
  });
}

type FilesWithCopies = Required<NonNullable<TimelineParts["files"]>>;

/** The timeline of a request, and its layer files, which can be downloaded and evicted. */
function withFiles(board: StatusBoard, c: Context): { watched: WatchedTimeline; files: FilesWithCopies } {
  const watched = board.timeline(c.req.param("name")!);
  const { files } = watched.parts;
  if (files?.download === undefined || files.evict === undefined) {
    throw new VarveError(
      "NO_LOCAL_COPIES",
      `Cannot keep layers of timeline "${watched.name}": it has no files here`,
    );
  }
  return { watched, files: files as FilesWithCopies };
}

function localLayer(board: StatusBoard, c: Context) {
  const { watched, files } = withFiles(board, c);
  const name = c.req.param("layer")!;
  const layer = watched.parts.timeline.layers.get(name);
  if (layer !== undefined) return { layer, files };
  const what = parseLayerName(name) === undefined
    ? "that is no layer name"
    : "the timeline has none of that name";
  throw new NotFoundError(`Cannot find the layer: ${what}`, { hint: "GET …/layers lists them." });
}

function taskOf(board: StatusBoard, c: Context): DownloadTask {
  const { downloadTask, name } = board.timeline(c.req.param("name")!);
  if (downloadTask !== undefined) return downloadTask;
  throw new NotFoundError(`Cannot show the download of timeline "${name}": none was started`, {
    hint: "POST starts one.",
  });
}

function snapshotDownload(task: DownloadTask): DownloadSnapshot {
  return {
    state: task.state,
    totalLayers: task.total,
    totalBytes: task.totalBytes,
    doneLayers: task.done,
    doneBytes: task.doneBytes,
    failedLayers: task.failed,
    failure: task.failure === undefined ? null : describeError(task.failure),
  };
}

/** A query parameter from 0 to `max`, the fallback if it is absent, undefined if it is something else. */
function wholeNumber(text: string | undefined, fallback: number, max: number): number | undefined {
  if (text === undefined) return fallback;
  const value = Number(text);
  return /^\d+$/.test(text) && value <= max ? value : undefined;
}
