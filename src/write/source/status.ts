/**
 * The state of the connection to the source, for whoever watches: the status endpoint, logs, the retry loop.
 *
 * Updated by the write path before it processes a message, so that it shows the latest positions even when processing
 * fails. Watchers are told of the latest state, not of each: several updates in a row make one call.
 *
 * @module
 */
import type { Lsn } from "../../lsn.ts";

/** What is known of the connection. Times are milliseconds since the Unix epoch. */
export interface ConnectionStatus {
  /** Whether there is a connection. */
  readonly isConnected: boolean;
  /** A healthy connection is one on which WAL was received and processed without errors. Starts anew with each. */
  readonly hasProcessedWal: boolean;
  /** When the connection was made, or its latest message was received. */
  readonly latestConnectionUpdate: number;
  /** When the latest WAL was received. */
  readonly latestWalUpdate: number;
  /** Up to where WAL was received; the next message starts here. Null: none on this connection yet. */
  readonly streamingLsn: Lsn | null;
  /** How far the server's WAL reaches, as it said last. Null: not told yet. */
  readonly commitLsn: Lsn | null;
  /** Whether all WAL was received that the server had when this connection was made. */
  readonly caughtUp: boolean;
  /** The position that the latest message with WAL, or with a question, was good for; and when. Kept over reconnects. */
  readonly lastReceivedMessageLsn: Lsn | null;
  readonly lastReceivedMessageTime: number | null;
}

/** Before the first connection. */
const NEVER_CONNECTED: ConnectionStatus = Object.freeze({
  isConnected: false,
  hasProcessedWal: false,
  latestConnectionUpdate: 0,
  latestWalUpdate: 0,
  streamingLsn: null,
  commitLsn: null,
  caughtUp: false,
  lastReceivedMessageLsn: null,
  lastReceivedMessageTime: null,
});

/** Called with the latest status. Must not throw. */
export type StatusListener = (status: ConnectionStatus) => void;

/** Holds the status and tells watchers of it. The methods named after events are for the source. */
export class ConnectionStatusWatch {
  #current: ConnectionStatus = NEVER_CONNECTED;
  readonly #listeners = new Set<StatusListener>();
  #isScheduled = false;
  /** End of WAL at the server when the connection was made: from there on it has caught up. */
  #endOfWal: Lsn | null = null;
  #processedAtConnect: Lsn | null = null;

  /** The status at this moment. A frozen object; a later one is another. */
  get current(): ConnectionStatus {
    return this.#current;
  }

  /** Calls `listener` in a microtask after changes, with the latest status. Returns how to stop that. */
  subscribe(listener: StatusListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** @param processed End of the last record that was processed before. */
  connected(now: number, processed: Lsn): void {
    this.#endOfWal = null;
    this.#processedAtConnect = processed;
    this.#update({
      isConnected: true,
      hasProcessedWal: false,
      latestConnectionUpdate: now,
      latestWalUpdate: now,
      streamingLsn: null,
      commitLsn: null,
      caughtUp: false,
    });
  }

  identified(now: number, endOfWal: Lsn): void {
    this.#endOfWal = endOfWal;
    this.#update({ latestConnectionUpdate: now, latestWalUpdate: now, commitLsn: endOfWal });
  }

  /** Streaming begins: there may be nothing to catch up on. */
  streaming(start: Lsn): void {
    if (this.#endOfWal !== null && start >= this.#endOfWal) this.#update({ caughtUp: true });
  }

  walReceived(now: number, startLsn: Lsn, length: number, walEnd: Lsn): void {
    const end = startLsn + length as Lsn;
    this.#update({
      latestConnectionUpdate: now,
      latestWalUpdate: length > 0 ? now : this.#current.latestWalUpdate,
      streamingLsn: end,
      commitLsn: walEnd,
      caughtUp: this.#current.caughtUp || (this.#endOfWal !== null && end >= this.#endOfWal),
      lastReceivedMessageLsn: end,
      lastReceivedMessageTime: now,
    });
  }

  /** @param processed Where the server wants to hear how far we are: end of the last record processed. */
  keepaliveReceived(now: number, walEnd: Lsn, processed?: Lsn): void {
    this.#update({ latestConnectionUpdate: now, commitLsn: walEnd });
    if (processed !== undefined) {
      this.#update({ lastReceivedMessageLsn: processed, lastReceivedMessageTime: now });
    }
  }

  /** Told now and then how far records are processed. */
  processed(position: Lsn): void {
    if (this.#current.hasProcessedWal || this.#processedAtConnect === null) return;
    if (position > this.#processedAtConnect) this.#update({ hasProcessedWal: true });
  }

  disconnected(): void {
    this.#update({ isConnected: false });
  }

  #update(change: Partial<ConnectionStatus>): void {
    this.#current = Object.freeze({ ...this.#current, ...change });
    if (this.#isScheduled || this.#listeners.size === 0) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      for (const listener of this.#listeners) listener(this.#current);
    });
  }
}
