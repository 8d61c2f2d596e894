/**
 * Keys and flags of values as people read them: for dumps, listings and messages. Never parsed.
 *
 * @module
 */
import {
  type Key,
  VALUE_COMPRESSION_MASK,
  VALUE_COMPRESSION_SHIFT,
  VALUE_ENDS_GIST_SPLIT,
  VALUE_FROM_ZERO,
  VALUE_FULL_PAGE_IMAGE,
  VALUE_KIND_MASK,
  VALUE_ZERO_PAGE,
} from "./key.ts";

const FAMILIES = [
  "relation",
  "relation_size",
  "slru",
  "slru_size",
  "database",
  "relmap",
  "tablespace",
  "two_phase",
  "cluster_state",
  "control_file",
  "origin",
  "file",
  "time",
];
const VALUE_KINDS = ["raw", "record", "full_page_image", "dropped"];
const KNOWN_FLAGS = VALUE_KIND_MASK | VALUE_FROM_ZERO | VALUE_ZERO_PAGE | VALUE_COMPRESSION_MASK |
  VALUE_ENDS_GIST_SPLIT;

/** For example `relation 1663/5/16384/0 block 7`. */
export function describeKey(key: Key): string {
  const family = FAMILIES[key.family] ?? `family ${key.family}`;
  return `${family} ${key.a}/${key.b}/${key.c}/${key.d} block ${key.block}`;
}

/** For example `record from_zero`. */
export function describeFlags(flags: number): string {
  const parts = [VALUE_KINDS[flags & VALUE_KIND_MASK]];
  const isImage = (flags & VALUE_KIND_MASK) === VALUE_FULL_PAGE_IMAGE;
  if ((flags & VALUE_FROM_ZERO) !== 0) parts.push(isImage ? "of_hint" : "from_zero");
  if ((flags & VALUE_ZERO_PAGE) !== 0) parts.push(isImage ? "with_record" : "zero_page");
  const compression = (flags & VALUE_COMPRESSION_MASK) >> VALUE_COMPRESSION_SHIFT;
  if (compression !== 0) parts.push(`compression ${compression}`);
  if ((flags & VALUE_ENDS_GIST_SPLIT) !== 0) parts.push("ends_gist_split");
  const unknown = flags & ~KNOWN_FLAGS;
  if (unknown !== 0) parts.push(`unknown 0x${unknown.toString(16)}`);
  return parts.join(" ");
}
