/**
 * How a replica is judged: settings of a server that keeps all its WAL, and the comparison with what it leaves.
 *
 * @module
 */
import { decodeClusterState, encodeClusterState } from "../../../src/postgres/effects/cluster_state.ts";
import type { VersionProfile } from "../../../src/postgres/versions/profile.ts";
import { assert } from "../../support/harness.ts";
import { runCommand } from "../../support/processes.ts";
import { differences, readContents, readControlFile, type Replica } from "./replica.ts";

/** All WAL is kept, and nothing runs that the test did not ask for. */
export const SETTINGS = {
  track_commit_timestamp: "on",
  max_prepared_transactions: 400,
  full_page_writes: "off",
  wal_keep_size: "100GB",
  max_wal_size: "50GB",
  checkpoint_timeout: "1h",
  autovacuum: "off",
};

/** A copy of the data directory, at rest or not: files that vanish meanwhile are not part of it. */
export async function copyDirectory(from: string, to: string): Promise<void> {
  await runCommand("sh", ["-c", `cp -R "$1" "$2" 2>/dev/null || true`, "cp", from, to]);
}

/** What pg_control says, but for what only PostgreSQL knows until its last checkpoint tells. */
function checkCounters(replica: Replica, dataDir: string, profile: VersionProfile): void {
  const control = readControlFile(dataDir, profile);
  const checkPoint = control.checkPointCopy;
  const before = replica.stateBeforeShutdown;
  assert.is(before.nextXid, checkPoint.nextXid, "nextXid before the shutdown checkpoint");
  assert.is(before.nextMulti, checkPoint.nextMulti, "nextMulti before the shutdown checkpoint");
  assert.is(
    before.nextMultiOffset,
    checkPoint.nextMultiOffset,
    "nextMultiOffset before the shutdown checkpoint",
  );
  assert.is(
    before.newestCommitTsXid,
    checkPoint.newestCommitTsXid,
    "newestCommitTsXid before the shutdown checkpoint",
  );
  assert.is(before.oldestMulti, checkPoint.oldestMulti, "oldestMulti before the shutdown checkpoint");
  assert.is(before.oldestMultiDB, checkPoint.oldestMultiDB, "oldestMultiDB before the shutdown checkpoint");
  // The server takes oids from a stock that it logged beforehand.
  assert.ok(
    before.nextOid >= checkPoint.nextOid && before.nextOid <= checkPoint.nextOid + 8192,
    `nextOid ${before.nextOid}`,
  );

  const stored = decodeClusterState(replica.saved);
  assert.equal(
    encodeClusterState(stored),
    encodeClusterState(replica.state),
    "the stored value is the state",
  );
  const expected = { ...checkPoint, walLevel: control.walLevel };
  assert.equal(stored.toCheckPoint(), expected);
  assert.is(stored.checkPointLsn, control.checkPoint);
  assert.is(stored.checkPointIsShutdown, true);
  for (
    const field of [
      "walLevel",
      "walLogHints",
      "maxConnections",
      "maxWorkerProcesses",
      "maxWalSenders",
      "maxPreparedXacts",
      "maxLocksPerXact",
      "trackCommitTimestamp",
      "dataChecksumVersion",
      "walSegmentSize",
    ] as const
  ) assert.is(stored[field], control[field], field);
}

/** Everything must be equal, and nothing may have been left out on the way. */
export function checkReplica(replica: Replica, dataDir: string, profile: VersionProfile): void {
  assert.equal(replica.unknown, []);
  assert.equal(replica.stale, []);
  assert.equal(differences(replica.contents(), readContents(dataDir)), []);
  checkCounters(replica, dataDir, profile);
}
