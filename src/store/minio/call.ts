/**
 * One HTTP request of minio-js with what minio-js lacks: time limits and an AbortSignal.
 *
 * minio-js sends through a `transport` that has the shape of `node:http`. Each call gets a transport of its own, which
 * watches the request go through its phases: connecting, waiting for the answer (bytes sent count as progress), and
 * receiving the body. A phase without progress for its limit ends the call with UnavailableError; the signal ends it
 * with its reason. Either way the caller learns it at once, whatever minio-js is waiting for, and the socket is closed.
 *
 * @module
 */
import type { MinioClient } from "../../deps/minio.ts";
import type { ClientRequest, httpRequest, IncomingMessage } from "../../deps/node_http.ts";
import { UnavailableError } from "../../errors.ts";
import { abortReason } from "../../flow/abort.ts";
import type { Clock } from "../../ports/clock.ts";

/** How long a request may make no progress, in milliseconds. */
export interface CallLimits {
  /** Until the connection is there, TLS included. */
  connectMs: number;
  /** From the last byte sent to the first byte of the answer. */
  firstByteMs: number;
  /** Between two pieces of the body. */
  idleMs: number;
}

/** What all calls of a store share. */
export interface CallContext {
  readonly client: MinioClient;
  readonly clock: Clock;
  readonly limits: CallLimits;
  readonly send: typeof httpRequest;
  /** Where requests go, for messages. */
  readonly host: string;
}

type Phase = "connect" | "answer" | "body" | "paused";

/** One request. `end()` it in any case. */
export class MinioCall {
  /** minio-js with this call's transport. Good for one request. */
  readonly client: MinioClient;
  /** HTTP status of the answer, once there is one. */
  status: number | undefined;
  /** The error code that MinIO puts into a header, also where there is no body. */
  serverCode: string | undefined;
  readonly #context: CallContext;
  readonly #signal: AbortSignal | undefined;
  readonly #failure: Promise<never>;
  #rejectFailure!: (reason: unknown) => void;
  readonly #ended = new AbortController();
  readonly #onAbort = () => this.#fail(abortReason(this.#signal!));
  #phase: Phase = "connect";
  #progressMs: number;
  #request: ClientRequest | undefined;

  constructor(context: CallContext, signal?: AbortSignal) {
    this.#context = context;
    this.#signal = signal;
    this.#progressMs = context.clock.monotonicMs();
    this.#failure = new Promise((_, reject) => this.#rejectFailure = reject);
    this.#failure.catch(() => {}); // told by race(); a call may also fail when nobody waits
    // A client for one call that differs from the shared one in its transport only.
    this.client = Object.create(context.client, { transport: { value: { request: this.#send } } });
    if (signal?.aborted) this.#onAbort();
    else signal?.addEventListener("abort", this.#onAbort, { once: true });
    this.#watch();
  }

  /** `work`, or this call's failure if that comes first. */
  race<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.#failure]);
  }

  /** Tells of this call's failure: a time limit, or its signal. */
  failed(tell: (error: unknown) => void): void {
    this.#failure.catch(tell);
  }

  /** Bytes have gone one way or the other. */
  progressed(): void {
    this.#progressMs = this.#context.clock.monotonicMs();
  }

  /** Nobody wants bytes for now, or again: it is not the server that is slow. */
  pause(paused: boolean): void {
    this.#enter(paused ? "paused" : "body");
  }

  /** The call is over: no more watching. A request that is still under way is dropped. */
  end(): void {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    this.#signal?.removeEventListener("abort", this.#onAbort);
  }

  /** Ends the call and closes its connection. */
  destroy(): void {
    this.end();
    this.#request?.destroy();
  }

  /** minio-js calls this as `http.request(options, callback)`. */
  readonly #send = (options: object, callback: (response: IncomingMessage) => void): ClientRequest => {
    const request = this.#context.send(options, (response: IncomingMessage) => {
      this.#enter("body");
      this.status = response.statusCode;
      const code = response.headers["x-minio-error-code"];
      if (typeof code === "string") this.serverCode = code;
      // An error event that nobody listens to would end the process: before a reader has come, or after it has gone.
      response.on("error", () => {});
      if (!isUnread(response.statusCode)) return callback(response);
      response.resume(); // minio-js takes these statuses for an error without reading what came with it
      callback(response);
    });
    this.#request = request;
    request.on("socket", (socket) => {
      if (!socket.connecting) this.#enter("answer");
      else socket.once("encrypted" in socket ? "secureConnect" : "connect", () => this.#enter("answer"));
    });
    request.on("finish", () => this.#enter("answer"));
    if (this.#ended.signal.aborted) request.destroy();
    return request;
  };

  #enter(phase: Phase): void {
    if (this.#phase !== "body" || phase !== "answer") this.#phase = phase; // an answer may come before all is sent
    this.progressed();
  }

  async #watch(): Promise<void> {
    const { clock, limits } = this.#context;
    const shortest = Math.min(limits.connectMs, limits.firstByteMs, limits.idleMs);
    try {
      while (!this.#ended.signal.aborted) {
        const left = this.#progressMs + this.#limit() - clock.monotonicMs();
        if (left <= 0) return this.#fail(this.#timeout());
        // The phase may change to one with a shorter limit meanwhile, but to none shorter than the shortest.
        await clock.sleep(Math.min(left, shortest), this.#ended.signal);
      }
    } catch {
      // The sleep was cut short by end(): the only way in which it rejects.
    }
  }

  #limit(): number {
    const { connectMs, firstByteMs, idleMs } = this.#context.limits;
    return { connect: connectMs, answer: firstByteMs, body: idleMs, paused: Infinity }[this.#phase];
  }

  #timeout(): UnavailableError {
    const { host } = this.#context;
    const what = {
      connect: `no connection to ${host}`,
      answer: `no answer from ${host}`,
      body: `no more of the answer from ${host}`,
      paused: "",
    }[this.#phase];
    return new UnavailableError(`${what} within ${this.#limit()} ms`, {
      hint: "Check that the endpoint is right and that the server is up.",
    }, "TIMEOUT");
  }

  #fail(error: unknown): void {
    if (this.#ended.signal.aborted) return;
    this.#rejectFailure(error);
    this.end();
    this.#request?.destroy(error instanceof Error ? error : undefined);
  }
}

/** Statuses that minio-js throws on at once, leaving the answer unread and its connection taken. */
function isUnread(status: number | undefined): boolean {
  return status === 408 || status === 429 || status === 499 || (status !== undefined && status >= 500);
}
