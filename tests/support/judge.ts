/**
 * Judges redo from the command line:
 *
 * ```
 * deno run -A tests/support/judge.ts --major 17 [--workload file.sql | file.ts#exportedFunction]
 *   [--no-checksums] [--set name=value]... [--keep 3] [--only Btree/] [--save DIR]
 * deno run -A tests/support/judge.ts --wal DIR/pg_wal --base DIR/base      (what --save left)
 * ```
 *
 * An SQL file is run statement by statement, each one its own transaction unless it says BEGIN, on one connection.
 * Without a workload a small one runs that touches every kind of index. Ends with 1 when redo differs or fails.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { judgeWorkload } from "./judge_workload.ts";
import { judgeRedo } from "./replay_oracle.ts";
import type { Cluster, PostgresMajor } from "./postgres.ts";
import { splitStatements } from "./sql_script.ts";

const DEFAULT_WORKLOAD = `
CREATE EXTENSION IF NOT EXISTS btree_gist;
CREATE TABLE t (id int PRIMARY KEY, v int, w text, p point, a int[]);
CREATE INDEX t_hash ON t USING hash (v);
CREATE INDEX t_gin ON t USING gin (a);
CREATE INDEX t_gist ON t USING gist (p);
CREATE INDEX t_spgist ON t USING spgist (w);
CREATE INDEX t_brin ON t USING brin (id) WITH (pages_per_range = 2, autosummarize = off);
INSERT INTO t SELECT i, i % 97, md5(i::text), point(i % 100, i / 100), ARRAY[i % 10, i % 100] FROM generate_series(1, 5000) i;
UPDATE t SET v = v + 1 WHERE id % 3 = 0;
DELETE FROM t WHERE id % 7 = 0;
VACUUM t;
UPDATE t SET w = w || 'x' WHERE id % 5 = 0;
INSERT INTO t SELECT i, i % 97, md5(i::text), point(i % 100, i / 100), ARRAY[i % 10, i % 100] FROM generate_series(5001, 8000) i;
SELECT id FROM t WHERE id < 400 FOR UPDATE;
VACUUM (FREEZE) t;
DELETE FROM t WHERE id > 4000;
VACUUM t;
CREATE SEQUENCE s;
SELECT nextval('s') FROM generate_series(1, 100);
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      major: { type: "string", default: "17" },
      workload: { type: "string" },
      "no-checksums": { type: "boolean", default: false },
      set: { type: "string", multiple: true, default: [] },
      keep: { type: "string", default: "3" },
      only: { type: "string", default: "" },
      save: { type: "string" },
      wal: { type: "string" },
      base: { type: "string" },
    },
  });
  const keep = Number(values.keep);
  const checksums = !values["no-checksums"];
  const verdict = values.wal !== undefined
    ? judgeRedo({ walDir: values.wal, baseDir: values.base, hintBitsLogged: checksums, keep })
    : await judgeWorkload({
      major: Number(values.major) as PostgresMajor,
      run: await loadWorkload(values.workload),
      checksums,
      settings: Object.fromEntries(values.set.map((pair) => pair.split(/=(.*)/s).slice(0, 2))),
      keep,
      saveTo: values.save,
    });
  console.log(verdict.report(values.only));
  return verdict.total("different", values.only) + verdict.total("errors", values.only) > 0 ? 1 : 0;
}

async function loadWorkload(name: string | undefined): Promise<(cluster: Cluster) => Promise<void>> {
  const [path, exported] = (name ?? "").split("#");
  if (path.endsWith(".ts")) {
    const module = await import(new URL(path, `file://${Deno.cwd()}/`).href);
    return module[exported];
  }
  const script = path === "" ? DEFAULT_WORKLOAD : await Deno.readTextFile(path);
  return (cluster) => runScript(cluster, script);
}

async function runScript(cluster: Cluster, script: string): Promise<void> {
  const connection = await cluster.sql().reserve();
  try {
    for (const statement of splitStatements(script)) await connection.unsafe(statement).simple();
  } finally {
    connection.release();
  }
}

Deno.exit(await main());
