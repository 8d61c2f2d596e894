/**
 * Port: what the engine tells the world. The library never prints; it hands structured events to a sink given by the
 * composition root (the CLI turns them into log lines and progress, the status endpoint into numbers).
 *
 * @module
 */

export type EventLevel = "debug" | "info" | "warn" | "error";

/** One thing that happened. `fields` holds plain values: numbers, strings, booleans; LSNs as text. */
export interface VarveEvent {
  level: EventLevel;
  /** Dotted topic, for example `source.connected`, `flush.uploaded`. Stable. */
  topic: string;
  /** One sentence for a person. */
  message: string;
  fields?: Record<string, string | number | boolean | null>;
  error?: unknown;
}

/** Receives events. Must not throw; is called synchronously on hot-ish paths, so it must be quick. */
export type EventSink = (event: VarveEvent) => void;
