/**
 * The only place where names of objects in the store are spelled.
 * ```
 * timelines/<name>/manifest.json      the one mutable object
 * timelines/<name>/layers/<layer>     immutable layer files
 * ```
 *
 * @module
 */

const TIMELINES = "timelines/";

/**
 * Milliseconds from when a layer's object began to be stored within which a manifest names it, or never will: whoever takes
 * longer makes it again, under another name. Collection takes objects that are much older for orphans.
 */
export const NAMED_WITHIN_MS = 45 * 60_000;

/** Whether a text may be a part of a key. */
export function isTimelineName(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(text);
}

/** Refuses a timeline name that could not be a part of a key. */
export function checkTimelineName(name: string): void {
  if (!isTimelineName(name)) {
    throw new TypeError(
      `Cannot use "${name}" as a timeline name: expected 1 to 128 letters, digits, ".", "_" or "-", beginning with a letter or digit`,
    );
  }
}

export function manifestKey(timeline: string): string {
  return `${TIMELINES}${timeline}/manifest.json`;
}

export function layerPrefix(timeline: string): string {
  return `${TIMELINES}${timeline}/layers/`;
}

export function layerKey(timeline: string, layer: string): string {
  return layerPrefix(timeline) + layer;
}

/** Prefix of all timelines. */
export function timelinesPrefix(): string {
  return TIMELINES;
}

/** The timeline that a manifest key belongs to, or undefined for other keys. */
export function timelineOfManifestKey(key: string): string | undefined {
  return /^timelines\/([^/]+)\/manifest\.json$/.exec(key)?.[1];
}
