/**
 * What the engine and the verbs tell on the way, as lines on standard error: for people, or one JSON object each.
 *
 * The events are structured already and every one passes through one function here, next to the redrawn line that it
 * must not tear apart; so this formats them itself instead of going through a logging library. Secrets are taken out.
 *
 * @module
 */
import { CorruptionError, NotFoundError, VarveError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type { EventLevel, EventSink, VarveEvent } from "../ports/events.ts";
import { redact } from "../status/redact.ts";
import { exitCodeOf } from "./exit_codes.ts";
import type { Style, Terminal } from "./terminal.ts";

/** Levels in ascending order. */
export const LOG_LEVELS: readonly EventLevel[] = ["debug", "info", "warn", "error"];

const LEVEL_STYLES: Partial<Record<EventLevel, Style>> = { debug: "dim", warn: "yellow", error: "red" };

/** How deep the chain of causes is shown. */
const CAUSES_MAX = 5;

export interface ReporterOptions {
  terminal: Terminal;
  clock: Clock;
  /** JSON lines. */
  json: boolean;
  /** Events below are left out. */
  level: EventLevel;
}

/** See the module's description. */
export class Reporter {
  readonly json: boolean;
  readonly #options: ReporterOptions;
  #lastHint = "";

  constructor(options: ReporterOptions) {
    this.#options = options;
    this.json = options.json;
  }

  /** Takes an event. Bound: it is the engine's sink. */
  readonly onEvent: EventSink = (event) => {
    const { level } = this.#options;
    if (LOG_LEVELS.indexOf(event.level) < LOG_LEVELS.indexOf(level)) return;
    if (this.json) this.#writeJson(event);
    else this.#writeText(event);
  };

  /** Progress: a JSON line, or where there is no line to redraw, a plain one. */
  progress(topic: string, message: string, fields: VarveEvent["fields"]): void {
    this.onEvent({ level: "info", topic, message, fields });
  }

  /** Why a verb has failed: message, causes, what to do. */
  failure(error: unknown): void {
    const { terminal, clock, level } = this.#options;
    const message = messageOf(error);
    const causes = causesOf(error);
    const hint = hintOf(error);
    if (this.json) {
      const code = error instanceof VarveError ? error.code : "ERROR";
      const document = {
        time: new Date(clock.now()).toISOString(),
        level: "error",
        topic: "failed",
        code,
        exitCode: exitCodeOf(error),
        message,
        causes,
        hint: hint ?? null,
      };
      terminal.line(JSON.stringify(document));
      return;
    }
    terminal.line(`${terminal.styled("red", "varve:")} ${message}`);
    for (const cause of causes) terminal.line(`  cause: ${cause}`);
    if (hint !== undefined) terminal.line(`  hint:  ${hint}`);
    if (level === "debug") terminal.line(redact((error as Error | null)?.stack ?? ""));
  }

  #writeJson({ level, topic, message, fields, error }: VarveEvent): void {
    const { terminal, clock } = this.#options;
    const time = new Date(clock.now()).toISOString();
    const document: Record<string, unknown> = { time, level, topic, message: redact(message), ...fields };
    if (error !== undefined) {
      const code = error instanceof VarveError ? error.code : "ERROR";
      document.error = { code, message: messageOf(error), hint: hintOf(error) ?? null };
    }
    terminal.line(JSON.stringify(document));
  }

  #writeText({ level, topic, message, error }: VarveEvent): void {
    const { terminal, clock } = this.#options;
    const time = new Date(clock.now()).toISOString();
    const shown = terminal.redraws ? time.slice(11, 19) : time;
    const reason = error === undefined || message.includes(messageOf(error)) ? "" : `: ${messageOf(error)}`;
    const style = LEVEL_STYLES[level];
    const head = `${shown} ${level.padEnd(5)} ${topic}`;
    terminal.line(
      `${style === undefined ? head : terminal.styled(style, head)}: ${redact(message)}${reason}`,
    );
    // The same advice again and again, while something is tried again and again, would only bury the rest.
    const hint = hintOf(error) ?? "";
    if (hint !== "" && hint !== this.#lastHint) terminal.line(`  hint:  ${hint}`);
    if (error !== undefined) this.#lastHint = hint;
  }
}

function messageOf(error: unknown): string {
  return redact(error instanceof Error ? error.message : String(error));
}

function hintOf(error: unknown): string | undefined {
  const hint = error instanceof VarveError ? error.hint : undefined;
  if (hint !== undefined) return redact(hint);
  return GENERAL_HINTS.find(([errorClass]) => error instanceof errorClass)?.[1];
}

/** For errors that come without advice of their own. */
const GENERAL_HINTS: readonly (readonly [typeof CorruptionError | typeof NotFoundError, string])[] = [
  [
    CorruptionError,
    "What is damaged was not used. Put the file or object in place from another copy, then try again.",
  ],
  [NotFoundError, "Check what was named; it may be gone, or somewhere else."],
];

/** Messages of the causes, outermost first, without those that the messages before have repeated. */
function causesOf(error: unknown): string[] {
  const causes: string[] = [];
  let told = messageOf(error);
  let cause = (error as { cause?: unknown } | null)?.cause;
  for (let depth = 0; cause !== undefined && cause !== null && depth < CAUSES_MAX; depth++) {
    const message = plainMessage(cause);
    if (message !== "" && !told.includes(message)) {
      causes.push(message);
      told += message;
    }
    cause = (cause as { cause?: unknown }).cause;
  }
  return causes;
}

/** Also of causes that are no Error but carry a message, as a server's error does. */
function plainMessage(cause: unknown): string {
  const message = (cause as { message?: unknown } | null)?.message;
  return redact(typeof message === "string" ? message : String(cause));
}
