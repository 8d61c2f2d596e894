/**
 * A driver whose servers do what a test says: to see retries, time limits and protocol errors without a server.
 *
 * @module
 */
import type {
  CopyControl,
  CopyReceiver,
  DriverConnection,
  DriverRow,
  DriverTarget,
  PostgresDriver,
} from "../../../src/ports/postgres_driver.ts";
import { ConnectionOptions } from "../../../src/write/source/connection_options.ts";

const encoder = new TextEncoder();

/** Values of a row, as a server sends them. */
export function row(...values: (string | null)[]): DriverRow {
  return values.map((value) => value === null ? null : encoder.encode(value));
}

/** A server error, as a driver throws it. */
export function serverError(code: string, message: string): Error {
  return Object.assign(new Error(message), { severity: "ERROR", code });
}

/** What a PostgreSQL 17 answers. */
const ANSWERS: Record<string, DriverRow[]> = {
  IDENTIFY_SYSTEM: [row("7000000000000000001", "1", "0/6000000", null)],
  "SHOW server_version_num": [row("170004")],
  "SHOW wal_segment_size": [row("16MB")],
  "SHOW block_size": [row("8192")],
  "SHOW wal_block_size": [row("8192")],
  "SHOW data_checksums": [row("on")],
  "SHOW wal_level": [row("replica")],
  "SHOW full_page_writes": [row("on")],
  "SHOW wal_log_hints": [row("off")],
  "SHOW in_hot_standby": [row("off")],
  "SHOW wal_sender_timeout": [row("1min")],
};

/** One copy as the test sees it. */
export class ScriptedCopy implements CopyControl {
  readonly command: string;
  readonly receiver: CopyReceiver;
  readonly written: Uint8Array[] = [];
  isPaused = false;
  isFinished = false;
  /** What `write` returns. */
  isWritable = true;

  constructor(command: string, receiver: CopyReceiver) {
    this.command = command;
    this.receiver = receiver;
  }

  pause(): void {
    this.isPaused = true;
  }
  resume(): void {
    this.isPaused = false;
  }
  write(message: Uint8Array): boolean {
    this.written.push(message);
    return this.isWritable;
  }
  finish(): void {
    this.isFinished = true;
  }

  /** Sends WAL: zeros, from `start`. */
  wal(start: number, length: number, walEnd = start + length): void {
    const message = new Uint8Array(25 + length);
    message[0] = 0x77;
    new DataView(message.buffer).setBigUint64(1, BigInt(start));
    new DataView(message.buffer).setBigUint64(9, BigInt(walEnd));
    this.receiver.data(message);
  }

  keepalive(walEnd: number, replyRequested = false): void {
    const message = new Uint8Array(18);
    message[0] = 0x6b;
    new DataView(message.buffer).setBigUint64(1, BigInt(walEnd));
    message[17] = replyRequested ? 1 : 0;
    this.receiver.data(message);
  }
}

/** How one connection behaves. */
export interface ConnectionScript {
  /** Fails to connect. */
  refuse?: Error;
  /** Never answers. */
  hang?: boolean;
  /** Other answers; an error is thrown. */
  answers?: Record<string, DriverRow[] | Error>;
}

export class ScriptedServer implements PostgresDriver {
  /** What the next connections do; when there are no more, they behave. */
  readonly scripts: ConnectionScript[] = [];
  readonly targets: DriverTarget[] = [];
  readonly commands: string[] = [];
  readonly copies: ScriptedCopy[] = [];
  /** Connections open now. */
  open = 0;
  copyCompleted = false;

  readonly options = new ConnectionOptions({ host: "db.invalid", port: 5432, user: "u", sslMode: "disable" });

  get copy(): ScriptedCopy {
    return this.copies.at(-1)!;
  }

  async connect(target: DriverTarget, signal: AbortSignal): Promise<DriverConnection> {
    const script = this.scripts.shift() ?? {};
    this.targets.push(target);
    if (script.refuse) throw script.refuse;
    if (script.hang) {
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    }
    this.open++;
    let isOpen = true;
    return {
      encrypted: target.tls !== undefined,
      serverError: null,
      copyCompleted: this.copyCompleted,
      rows: (command) => {
        this.commands.push(command);
        const answer = script.answers?.[command] ?? ANSWERS[command];
        if (answer === undefined) return Promise.reject(serverError("42601", `syntax error: ${command}`));
        return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
      },
      copy: (command, receiver) => {
        const copy = new ScriptedCopy(command, receiver);
        this.copies.push(copy);
        queueMicrotask(() => receiver.begin());
        return copy;
      },
      close: () => {
        if (isOpen) this.open--;
        isOpen = false;
        return Promise.resolve();
      },
    };
  }
}

/** An error of the transport, as a driver throws it. */
export function transportFailure(phase: "connect" | "tls" | "closed", message: string): Error {
  return Object.assign(new Error(message), { phase });
}
