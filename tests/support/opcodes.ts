/**
 * Every opcode of every resource manager and major, counted: the table that shows what workloads have reached.
 *
 * The opcodes are asked of the product's own names (`recordTypeName()`), so that none can be forgotten here.
 *
 * @module
 */
import { profileOfMajor } from "../../src/postgres/versions/all.ts";
import { fullRecordTypeName, recordTypeName } from "../../src/postgres/wal/describe.ts";
import { RM_MAX_BUILTIN_ID } from "../../src/postgres/wal/rmgr.ts";
import { POSTGRES_MAJORS, type PostgresMajor } from "./postgres.ts";

/** Values of the upper four bits of `xl_info`. */
const OPCODES = 16;

/** Names of all record types of a major, in the order of manager and opcode, as `Heap/INSERT+INIT`. */
export function opcodesOf(major: PostgresMajor): string[] {
  const profile = profileOfMajor(major);
  const names = new Set<string>();
  for (let rmid = 0; rmid <= RM_MAX_BUILTIN_ID; rmid++) {
    for (let opcode = 0; opcode < OPCODES; opcode++) {
      if (recordTypeName(profile, rmid, opcode << 4).startsWith("UNKNOWN")) continue;
      names.add(fullRecordTypeName(profile, rmid, opcode << 4));
    }
  }
  return [...names];
}

/** What PostgreSQL has a name for and never writes, or writes only where a workload cannot bring it, and why. */
export const UNREACHABLE: ReadonlyMap<string, string> = new Map([
  ["XLOG/NOOP", "nothing in PostgreSQL writes it"],
  [
    "Heap/HOT_UPDATE+INIT",
    "a heap-only tuple shares its page with the old version, so it is never the first on a new page",
  ],
]);

/** How often each opcode came, in each major that has it. */
export class OpcodeTable {
  readonly #counts = new Map<string, Map<PostgresMajor, number>>();

  constructor() {
    // The order of the first major, what others have in addition behind it.
    for (const major of POSTGRES_MAJORS) {
      for (const name of opcodesOf(major)) {
        let row = this.#counts.get(name);
        if (row === undefined) this.#counts.set(name, row = new Map());
        row.set(major, 0);
      }
    }
  }

  /**
   * Adds some.
   *
   * @throws {Error} If the major has no such opcode.
   */
  add(major: PostgresMajor, name: string, records: number): void {
    const row = this.#counts.get(name);
    const before = row?.get(major);
    if (before === undefined) throw new Error(`Cannot count ${name}: PostgreSQL ${major} has no such opcode`);
    row!.set(major, before + records);
  }

  /** Opcodes of a major that did not come. */
  unreached(major: PostgresMajor): string[] {
    return [...this.#counts].filter(([, row]) => row.get(major) === 0).map(([name]) => name);
  }

  /** The table: a line for each opcode, a column for each major; `-` where the major has no such opcode. */
  format(): string {
    const managers = Map.groupBy(this.#counts, ([name]) => name.slice(0, name.indexOf("/")));
    const lines = [
      "record type".padEnd(34) + POSTGRES_MAJORS.map((major) => String(major).padStart(9)).join(""),
    ];
    for (const rows of managers.values()) {
      for (const [name, row] of rows) {
        const cells = POSTGRES_MAJORS.map((major) => String(row.get(major) ?? "-").padStart(9));
        const reason = UNREACHABLE.get(name);
        lines.push(
          name.padEnd(34) + cells.join("") + (reason === undefined ? "" : `  unreachable: ${reason}`),
        );
      }
    }
    return lines.join("\n");
  }
}
