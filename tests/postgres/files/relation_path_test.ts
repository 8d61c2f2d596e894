/** Paths in a data directory, and the relations they belong to. */
import {
  databaseDirectory,
  DEFAULTTABLESPACE_OID,
  GLOBALTABLESPACE_OID,
  isTemporaryRelationName,
  parseDatabaseDirectory,
  parseRelationPath,
  relationPath,
  tablespaceVersionDirectory,
} from "../../../src/postgres/files/relation_path.ts";
import { assert, suite } from "../../support/harness.ts";

const test = suite("files/relation_path");

const VERSION = tablespaceVersionDirectory(17, 202406281);

test("parseRelationPath() and relationPath() are inverses", () => {
  const paths: [string, [number, number, number, number, number]][] = [
    ["global/1262", [GLOBALTABLESPACE_OID, 0, 1262, 0, 0]],
    ["global/1262_vm", [GLOBALTABLESPACE_OID, 0, 1262, 2, 0]],
    ["base/5/16384", [DEFAULTTABLESPACE_OID, 5, 16384, 0, 0]],
    ["base/5/16384_fsm", [DEFAULTTABLESPACE_OID, 5, 16384, 1, 0]],
    ["base/5/16384_init", [DEFAULTTABLESPACE_OID, 5, 16384, 3, 0]],
    ["base/5/16384.1", [DEFAULTTABLESPACE_OID, 5, 16384, 0, 1]],
    ["base/5/16384_fsm.12", [DEFAULTTABLESPACE_OID, 5, 16384, 1, 12]],
    ["base/4294967295/4294967295", [DEFAULTTABLESPACE_OID, 4294967295, 4294967295, 0, 0]],
    [`pg_tblspc/16400/${VERSION}/5/16384_vm.3`, [16400, 5, 16384, 2, 3]],
  ];
  for (const [path, [spc, db, rel, fork, segment]] of paths) {
    const file = { spc, db, rel, fork, segment };
    assert.equal(parseRelationPath(path), file, path);
    assert.is(relationPath(file, VERSION), path);
  }
});

test("parseRelationPath() leaves alone what is no file of a permanent relation", () => {
  const others = [
    "",
    "16384",
    "base/16384",
    "base/5/PG_VERSION",
    "base/5/pg_filenode.map",
    "base/5/pg_internal.init",
    "base/5/t3_16384",
    "base/5/t3_16384_fsm",
    "base/5/016384",
    "base/5/16384.0",
    "base/5/16384.01",
    "base/5/16384_main",
    "base/5/16384_fsm_vm",
    "base/5/16384.1_fsm",
    "base/5/16384 ",
    "base/5/4294967296",
    "base/4294967296/16384",
    "base/05/16384",
    "base/pgsql_tmp/16384",
    "global/pg_control",
    "global/5/16384",
    "pg_tblspc/16400/16384",
    "pg_tblspc/16400/PG_17/5/16384",
    `pg_tblspc/16400/${VERSION}/16384`,
    "pg_xact/0000",
    "/base/5/16384",
    "base/5/16384/",
  ];
  for (const path of others) assert.is(parseRelationPath(path), undefined, path);
});

test("directories of databases, both ways", () => {
  const directories: [string, number, number][] = [
    ["global", GLOBALTABLESPACE_OID, 0],
    ["base/1", DEFAULTTABLESPACE_OID, 1],
    [`pg_tblspc/16400/${VERSION}/5`, 16400, 5],
  ];
  for (const [path, spc, db] of directories) {
    assert.equal(parseDatabaseDirectory(path), { spc, db });
    assert.is(databaseDirectory(spc, db, VERSION), path);
  }
  assert.equal(parseDatabaseDirectory("pg_tblspc/16400/PG_14_202107181/5"), { spc: 16400, db: 5 });
  for (const path of ["", "base", "base/", "pg_tblspc/16400", "base/1/2", "pg_wal"]) {
    assert.is(parseDatabaseDirectory(path), undefined, path);
  }
});

test("isTemporaryRelationName() tells temporary relations", () => {
  for (const name of ["t3_16384", "t12_16384_fsm", "t1_5_vm", "t1_5_init", "t1_5.1", "t1_5_fsm.2"]) {
    assert.ok(isTemporaryRelationName(name), name);
  }
  for (const name of ["16384", "t_16384", "t3_", "t3_0", "t3_16384_main", "table", "t3_5x"]) {
    assert.not(isTemporaryRelationName(name), name);
  }
});

test.run();
