/**
 * Mounts varve's status app in a Hono app of one's own, beside a route that reads pages:
 * `deno run -A examples/03_mount_the_status_app.ts DIRECTORY [PORT]`
 *
 * Here the timeline is only read; what `follow()` returns is shown the same way.
 */
import { attachReader, MAIN_FORKNUM, parseLsn, systemClock } from "../mod.ts";
import { Hono } from "../src/deps/hono.ts"; // npm:hono
import { serveHttp } from "../src/deps/http_server.ts"; // or Deno.serve(app.fetch), Bun.serve(app), a worker's export
import { createStatusApp } from "../src/status/app.ts";
import { StatusBoard } from "../src/status/board.ts";
import { VarveMetrics } from "../src/status/metrics.ts";
import { FilesStore } from "../src/store/files.ts";

const [directory, port = "0"] = Deno.args;
const store = await FilesStore.open({ path: directory });
const attached = await attachReader({ store, clock: systemClock });

const board = new StatusBoard({ clock: systemClock, store });
board.add(attached);

const app = new Hono();
app.get("/", (c) => c.text("An app of one's own. See /varve/ and /pages/SPC/DB/REL/BLOCK?lsn=X/Y\n"));
app.route("/varve", createStatusApp({ board, metrics: new VarveMetrics(board) }));
app.get("/pages/:spc/:db/:rel/:block", async (c) => {
  const [spc, db, rel, block] = ["spc", "db", "rel", "block"].map((name) => Number(c.req.param(name)));
  const at = c.req.query("lsn");
  const lsn = at === undefined ? attached.timeline.lastRecordLsn : parseLsn(at);
  const page = await attached.reader.getPage({ spc, db, rel }, MAIN_FORKNUM, block, lsn);
  return c.body(page.slice().buffer, 200, { "content-type": "application/octet-stream" });
});

const server = await serveHttp(app.fetch, { port: Number(port) });
console.log(`listening on ${server.url}/`);
