/**
 * What the demo shows to who watches: lines, and one line that is drawn anew while something goes on.
 *
 * @module
 */

/** How often a line is printed where it cannot be drawn anew. */
const PLAIN_INTERVAL_MS = 2000;

const isTerminal = Deno.stdout.isTerminal();
const encoder = new TextEncoder();

/** Prints a line under a heading of up to ten letters. */
export function say(heading: string, text: string): void {
  write(`${heading.padEnd(11)}${text}\n`);
}

/** Says how something goes on: on a terminal in place, else a line every two seconds. `finish` leaves the last word. */
export class LiveLine {
  readonly #heading: string;
  #lastMs = performance.now();

  constructor(heading: string) {
    this.#heading = heading;
  }

  update(text: string): void {
    if (isTerminal) return write(`\r\x1b[2K${this.#heading.padEnd(11)}${text}`);
    if (performance.now() - this.#lastMs < PLAIN_INTERVAL_MS) return;
    this.#lastMs = performance.now();
    say(this.#heading, text);
  }

  finish(text: string): void {
    if (isTerminal) write("\r\x1b[2K");
    say(this.#heading, text);
  }
}

/** Waits for Enter where somebody can press it; else goes on at once. */
export async function waitForEnter(text: string): Promise<void> {
  if (!isTerminal || !Deno.stdin.isTerminal()) return;
  write(text);
  await Deno.stdin.read(new Uint8Array(64));
}

/** `12.3 MiB`. */
export function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/** `1 page`, `2 pages`. */
export function count(number: number, noun: string): string {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

function write(text: string): void {
  for (let bytes = encoder.encode(text); bytes.length > 0;) {
    bytes = bytes.subarray(Deno.stdout.writeSync(bytes));
  }
}
