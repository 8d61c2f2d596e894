/**
 * Reads along with what a PostgreSQL server sends, only for what postgres.js keeps to itself: the error before the end of
 * a connection, and whether a copy was completed in order.
 *
 * It follows the framing alone (a type byte, a big-endian length that counts itself) and skips every other message's
 * content, so it costs a few steps per message. Source: PostgreSQL's documentation, "Message Formats" (protocol 3.0).
 *
 * @module
 */
import type { ServerError } from "../ports/postgres_driver.ts";

const HEADER_BYTES = 5;
const ERROR_RESPONSE = 0x45; // E
const COMMAND_COMPLETE = 0x43; // C
const COPY_BOTH_RESPONSE = 0x57; // W
const COPY_OUT_RESPONSE = 0x48; // H
/** Longer errors are not kept: no server sends them. */
const ERROR_BYTES_MAX = 64 * 1024;

const ERROR_FIELDS: Record<string, keyof ServerError> = {
  V: "severity", // not localised, unlike S
  C: "code",
  M: "message",
  D: "detail",
  H: "hint",
};

/** Takes every byte that arrives, from the first message on. */
export class ServerMessageTap {
  /** The last error of the server. */
  error: ServerError | null = null;
  /** Whether a command was completed after a copy had begun. */
  copyCompleted = false;
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerFilled = 0;
  /** Bytes of the message under way that are still to come. */
  #left = 0;
  #body: Uint8Array | null = null;
  #copying = false;

  push(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#left === 0) {
        this.#header[this.#headerFilled++] = bytes[at++];
        if (this.#headerFilled === HEADER_BYTES) this.#begin();
        continue;
      }
      const taken = Math.min(this.#left, bytes.length - at);
      if (this.#body !== null) this.#body.set(bytes.subarray(at, at + taken), this.#body.length - this.#left);
      at += taken;
      this.#left -= taken;
      if (this.#left === 0) this.#finish();
    }
  }

  #begin(): void {
    const [type, b1, b2, b3, b4] = this.#header;
    this.#headerFilled = 0;
    this.#left = Math.max(0, ((b1 << 24 | b2 << 16 | b3 << 8 | b4) >>> 0) - 4);
    if (type === COPY_BOTH_RESPONSE || type === COPY_OUT_RESPONSE) this.#copying = true;
    if (type === COMMAND_COMPLETE && this.#copying) this.copyCompleted = true;
    if (type === ERROR_RESPONSE && this.#left <= ERROR_BYTES_MAX) this.#body = new Uint8Array(this.#left);
  }

  #finish(): void {
    if (this.#body !== null) this.error = parseErrorResponse(this.#body);
    this.#body = null;
  }
}

/** Reads the fields of an ErrorResponse: a type byte and a string each, ended by a zero byte. */
export function parseErrorResponse(body: Uint8Array): ServerError {
  const error: ServerError = { severity: "ERROR", code: "XX000", message: "unknown error" };
  const decoder = new TextDecoder();
  for (let at = 0; at < body.length && body[at] !== 0;) {
    let end = body.indexOf(0, at + 1);
    if (end === -1) end = body.length;
    const field = ERROR_FIELDS[String.fromCharCode(body[at])];
    if (field !== undefined) error[field] = decoder.decode(body.subarray(at + 1, end));
    at = end + 1;
  }
  return error;
}
