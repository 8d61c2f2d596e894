/** Arithmetic of SLRU pages and segments, on the circle of ids. */
import {
  CLOG_XACTS_PER_PAGE,
  COMMIT_TS_XACTS_PER_PAGE,
  MULTIXACT_OFFSETS_PER_PAGE,
  parseSlruPath,
  parseSlruSegmentName,
  SLRU_COMMIT_TS,
  SLRU_KINDS,
  SLRU_MULTIXACT_MEMBERS,
  SLRU_MULTIXACT_OFFSETS,
  SLRU_PAGES_PER_SEGMENT,
  SLRU_XACT,
  slruEntriesPerPage,
  type SlruKind,
  slruMaxPage,
  slruMaxSegment,
  slruMayDeleteSegment,
  slruPageOf,
  slruPagePrecedes,
  slruSegmentInRange,
  slruSegmentName,
  slruSegmentOf,
  slruSegmentPath,
} from "../../../src/postgres/page/slru.ts";
import { assert, suite } from "../../support/harness.ts";

const test = suite("page/slru");

test("slruPageOf() and slruEntriesPerPage() place ids as PostgreSQL does", () => {
  assert.equal(SLRU_KINDS.map(slruEntriesPerPage), [32768, 2048, 1636, 819]);
  assert.equal(SLRU_KINDS.map((kind) => slruPageOf(kind, 0xffffffff)), [131071, 2097151, 2625285, 5244160]);
  assert.equal(SLRU_KINDS.map(slruMaxPage), [131071, 2097151, 2625285, 5244160]);
  // The last segments: 0FFF, FFFF, 14078, 28028.
  assert.equal(SLRU_KINDS.map((kind) => slruSegmentName(slruMaxSegment(kind))), [
    "0FFF",
    "FFFF",
    "14078",
    "28028",
  ]);
  assert.is(slruPageOf(SLRU_XACT, 32767), 0);
  assert.is(slruPageOf(SLRU_XACT, 32768), 1);
  assert.is(slruSegmentOf(31), 0);
  assert.is(slruSegmentOf(32), 1);
});

/** The assertions of PostgreSQL's own `SlruPagePrecedesTestOffset`, for one kind of entry and one place on the page. */
function checkPrecedence(kind: SlruKind, perPage: number, offset: number): void {
  const page = (id: number) => Math.floor((id >>> 0) / perPage);
  const precedes = (left: number, right: number) => slruPagePrecedes(kind, left, right);
  const divides = 2 ** 31 % perPage === 0;
  const lhs = perPage + offset;
  const rhs = lhs + 2 ** 31;
  assert.not(precedes(page(lhs), page(lhs)));
  assert.not(precedes(page(lhs), page(rhs)));
  assert.not(precedes(page(rhs), page(lhs)));
  assert.not(precedes(page(lhs - perPage), page(rhs)));
  assert.ok(precedes(page(rhs), page(lhs - 3 * perPage)));
  assert.ok(precedes(page(rhs), page(lhs - 2 * perPage)));
  if (divides) assert.ok(precedes(page(rhs), page(lhs - perPage)));
  if (divides) assert.ok(precedes(page(lhs + perPage), page(rhs)));
  assert.ok(precedes(page(lhs + 2 * perPage), page(rhs)));
  assert.ok(precedes(page(lhs + 3 * perPage), page(rhs)));
  assert.not(precedes(page(rhs), page(lhs + perPage)));
  // The last id that may be used lies on the last or first page of the second segment, which must stay.
  for (const newestPage of [2 * SLRU_PAGES_PER_SEGMENT - 1, SLRU_PAGES_PER_SEGMENT]) {
    const newest = newestPage * perPage + offset;
    const oldestPage = page(newest + 1 - 2 ** 31);
    assert.not(slruMayDeleteSegment(kind, slruSegmentOf(newestPage), oldestPage));
  }
}

test("slruPagePrecedes() passes PostgreSQL's own unit tests of PagePrecedes", () => {
  const kinds: [SlruKind, number][] = [
    [SLRU_XACT, CLOG_XACTS_PER_PAGE],
    [SLRU_COMMIT_TS, COMMIT_TS_XACTS_PER_PAGE],
    [SLRU_MULTIXACT_OFFSETS, MULTIXACT_OFFSETS_PER_PAGE],
  ];
  for (const [kind, perPage] of kinds) {
    for (const offset of [0, Math.floor(perPage / 2), perPage - 1]) checkPrecedence(kind, perPage, offset);
  }
});

test("slruPagePrecedes() wraps around for every kind", () => {
  for (const kind of SLRU_KINDS) {
    const last = slruMaxPage(kind);
    assert.ok(slruPagePrecedes(kind, 1, 3), `${kind}: 1 before 3`);
    assert.ok(slruPagePrecedes(kind, last - 2, 2), `${kind}: the end before the beginning`);
    assert.not(slruPagePrecedes(kind, 2, last - 2), `${kind}: the beginning not before the end`);
  }
});

/** The segments that a truncation removes. */
function truncated(kind: SlruKind, segments: number[], cutoffPage: number): number[] {
  return segments.filter((segno) => slruMayDeleteSegment(kind, segno, cutoffPage));
}

test("slruMayDeleteSegment() names whole segments before the cutoff, across the wrap-around too", () => {
  assert.equal(truncated(SLRU_XACT, [0, 1, 2, 3], 2 * 32 + 5), [0, 1]);
  assert.equal(truncated(SLRU_XACT, [0, 1, 2, 3], 2 * 32), [0, 1]);
  assert.equal(truncated(SLRU_XACT, [0, 1, 2, 3], 2 * 32 - 1), [0]);
  assert.equal(truncated(SLRU_XACT, [0xffe, 0xfff, 0, 1], 33), [0xffe, 0xfff, 0]);
  assert.equal(truncated(SLRU_MULTIXACT_OFFSETS, [0xffff, 0, 1], 40), [0xffff, 0]);
  assert.equal(truncated(SLRU_COMMIT_TS, [7, 8], 0), []);
});

test("slruSegmentInRange() is the circular range that ends before its end", () => {
  const inside = (first: number, end: number) =>
    [0, 1, 2, 3, 0x14078].filter((segno) => slruSegmentInRange(segno, first, end));
  assert.equal(inside(1, 3), [1, 2]);
  assert.equal(inside(2, 2), []);
  assert.equal(inside(3, 1), [0, 3, 0x14078]);
  assert.equal(inside(0, 4), [0, 1, 2, 3]);
});

test("segment names have at least four digits and one form each", () => {
  assert.equal([0, 0xab, 0x1234, 0x14078].map(slruSegmentName), ["0000", "00AB", "1234", "14078"]);
  assert.equal(["0000", "00AB", "14078"].map(parseSlruSegmentName), [0, 0xab, 0x14078]);
  for (const name of ["", "000", "00ab", "00000", "1234567", "00A.", "0000.tmp"]) {
    assert.is(parseSlruSegmentName(name), undefined, name);
  }
});

test("parseSlruPath() knows the four directories, and slruSegmentPath() is its inverse", () => {
  assert.equal(parseSlruPath("pg_xact/0001"), { kind: SLRU_XACT, segno: 1 });
  assert.equal(parseSlruPath("pg_multixact/members/14078"), { kind: SLRU_MULTIXACT_MEMBERS, segno: 0x14078 });
  for (const kind of SLRU_KINDS) assert.equal(parseSlruPath(slruSegmentPath(kind, 5)), { kind, segno: 5 });
  for (
    const path of [
      "pg_xact",
      "pg_xact/1000",
      "pg_subtrans/0000",
      "0000",
      "pg_xact/0000/0000",
      "x/pg_xact/0000",
      "",
    ]
  ) {
    assert.is(parseSlruPath(path), undefined, path);
  }
});

test.run();
