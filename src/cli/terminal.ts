/**
 * Standard output and standard error: results go to the one, everything else to the other.
 *
 * On a terminal, standard error has one line at its end that is redrawn (the status); lines that are logged appear above
 * it. Elsewhere there is no such line. NO_COLOR turns colours off, TERM=dumb the redrawn line too.
 *
 * @module
 */
import process from "node:process";
import type { Environment } from "./config.ts";

const CLEAR_LINE = "\r\x1b[2K";

export type Style = "red" | "yellow" | "dim" | "bold";

const STYLES: Readonly<Record<Style, string>> = { red: "31", yellow: "33", dim: "2", bold: "1" };

/** See the module's description. */
export class Terminal {
  /** Whether standard error is a terminal whose last line can be redrawn. */
  readonly redraws: boolean;
  /** Whether standard output is a terminal. */
  readonly isOutputTerminal: boolean;
  readonly #colors: boolean;
  #status = "";

  constructor(env: Environment) {
    this.redraws = process.stderr.isTTY === true && env.TERM !== "dumb";
    this.isOutputTerminal = process.stdout.isTTY === true;
    this.#colors = this.redraws && (env.NO_COLOR ?? "") === "";
    process.stdout.on("error", endOnBrokenPipe);
    process.stderr.on("error", endOnBrokenPipe);
  }

  /** A result. Resolves when it has been handed over, so that a slow reader slows us down. */
  write(result: string | Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      process.stdout.write(result, (error?: Error | null) => {
        if (!error) return resolve();
        endOnBrokenPipe(error);
        reject(error);
      });
    });
  }

  /** A line on standard error, above the status. */
  line(text: string): void {
    const redrawn = this.#status === "" ? "" : CLEAR_LINE;
    process.stderr.write(`${redrawn}${text}\n${this.#status}`);
  }

  /** Redraws the status line; empty removes it. Nothing where nothing can be redrawn. */
  status(text: string): void {
    if (!this.redraws || text === this.#status) return;
    const columns = process.stderr.columns || 80;
    this.#status = text.length < columns ? text : text.slice(0, columns - 2) + "…";
    process.stderr.write(CLEAR_LINE + this.#status);
  }

  /** Text in a style, where there are colours. */
  styled(style: Style, text: string): string {
    return this.#colors ? `\x1b[${STYLES[style]}m${text}\x1b[0m` : text;
  }
}

/** Whoever read our output has seen enough, as in `varve waldump … | head`. */
function endOnBrokenPipe(error: unknown): void {
  const { code, name } = error as { code?: string; name?: string };
  if (code === "EPIPE" || name === "BrokenPipe") process.exit(0);
}
