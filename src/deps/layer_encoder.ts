/**
 * A layer encoder that is a web worker: another thread makes the files of frozen memory layers.
 *
 * For Deno and Bun; Node has no such workers, and a bundle not the worker's module, so that there
 * {@linkcode openLayerEncoder} returns undefined and layers are encoded in place. The worker starts with the first layer.
 * It keeps the process alive until `close`.
 *
 * @module
 */
import { SharedArena } from "../bytes/arena.ts";
import { UnavailableError } from "../errors.ts";
import { abortReason } from "../flow/abort.ts";
import type { LayerSummary } from "../layer/layer_writer.ts";
import { type MemorySnapshot, transferables } from "../layer/memory_snapshot.ts";
import type { EncodeOptions, LayerEncoder } from "../ports/layer_encoder.ts";
import {
  type EncoderAnswer,
  type EncoderRequest,
  revivedError,
  threadCodec,
} from "./layer_encoder_messages.ts";

/** Chunks of 2 MiB that may be made ahead of whoever writes them. */
const CHUNKS_AHEAD = 6;

export interface LayerEncoderOptions {
  /** The worker's module. Default: the one beside this. */
  thread?: URL;
  /** A worker that says nothing for so long has died. Default: 2 minutes; a chunk takes milliseconds. */
  answerMsMax?: number;
}

/** Opens an encoder where the runtime has workers. */
export function openLayerEncoder(
  options: LayerEncoderOptions = {},
): LayerEncoder<MemorySnapshot, LayerSummary> | undefined {
  const hasThreads = typeof Worker === "function" && typeof SharedArrayBuffer === "function";
  if (!hasThreads || !import.meta.url.endsWith(".ts") || !mayLoad(DEFAULT_THREAD)) return undefined;
  return new WorkerEncoder(options);
}

const DEFAULT_THREAD = new URL("./layer_encoder_thread.ts", import.meta.url);

/** Deno loads a worker's module only from where the program may read. */
function mayLoad(thread: URL): boolean {
  const { Deno } = globalThis as {
    Deno?: { permissions?: { querySync(wanted: unknown): { state: string } } };
  };
  if (Deno?.permissions === undefined || thread.protocol !== "file:") return true;
  return Deno.permissions.querySync({ name: "read", path: thread }).state === "granted";
}

/** Answers of one run that nobody has taken yet. */
interface Run {
  readonly answers: EncoderAnswer[];
  wake: (() => void) | undefined;
}

class WorkerEncoder implements LayerEncoder<MemorySnapshot, LayerSummary> {
  readonly arena: SharedArena = new SharedArena();
  #worker: Worker | undefined;
  #failure: UnavailableError | undefined;
  readonly #runs = new Map<number, Run>();
  #lastRun = 0;
  readonly #thread: URL;
  readonly #answerMsMax: number;

  constructor(
    { thread = DEFAULT_THREAD, answerMsMax = 120_000 }: LayerEncoderOptions,
  ) {
    this.#thread = thread;
    this.#answerMsMax = answerMsMax;
  }

  get available(): boolean {
    return this.#failure === undefined;
  }

  compresses(codec: number): boolean {
    return threadCodec(codec) !== undefined;
  }

  async *encode(
    snapshot: MemorySnapshot,
    { major, codec, signal }: EncodeOptions,
  ): AsyncGenerator<Uint8Array, LayerSummary> {
    signal?.throwIfAborted();
    const number = ++this.#lastRun;
    const run: Run = { answers: [], wake: undefined };
    this.#runs.set(number, run);
    const wake = () => run.wake?.();
    signal?.addEventListener("abort", wake);
    let hasEnded = false;
    try {
      this.#post(
        { kind: "encode", run: number, snapshot, major, codec, credit: CHUNKS_AHEAD },
        transferables(snapshot),
      );
      for (;;) {
        const answer = await this.#next(run, signal);
        if (answer.kind === "chunk") {
          yield answer.chunk;
          this.#post({ kind: "credit", run: number });
          continue;
        }
        hasEnded = true;
        if (answer.kind === "done") return answer.summary;
        throw revivedError(answer.error);
      }
    } finally {
      signal?.removeEventListener("abort", wake);
      this.#runs.delete(number);
      if (!hasEnded) this.#worker?.postMessage({ kind: "end", run: number } satisfies EncoderRequest);
    }
  }

  /** The run's next answer, as soon as there is one. */
  async #next(run: Run, signal: AbortSignal | undefined): Promise<EncoderAnswer> {
    for (;;) {
      if (signal?.aborted) throw abortReason(signal);
      const answer = run.answers.shift();
      if (answer !== undefined) return answer;
      if (this.#failure !== undefined) throw this.#failure;
      // It has credit, else there would be an answer: it is at work, or no more.
      const patience = setTimeout(() => this.#giveUp(), this.#answerMsMax);
      await new Promise<void>((resolve) => run.wake = resolve);
      clearTimeout(patience);
      run.wake = undefined;
    }
  }

  #post(request: EncoderRequest, transfer: Transferable[] = []): void {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      this.#worker ??= this.#start();
    } catch (error) {
      this.#fail(
        new UnavailableError(`Cannot encode a layer on another thread: ${(error as Error).message}`, {
          cause: error,
        }),
      );
      throw this.#failure;
    }
    this.#worker.postMessage(request, transfer);
  }

  #start(): Worker {
    const worker = new Worker(this.#thread, {
      type: "module",
      name: "varve layer encoder",
    });
    worker.onmessage = ({ data }: MessageEvent<EncoderAnswer>) => {
      const run = this.#runs.get(data.run);
      run?.answers.push(data);
      run?.wake?.();
    };
    worker.onerror = (event) => {
      event.preventDefault();
      this.#fail(new UnavailableError(`Cannot encode a layer on another thread: ${event.message}`));
    };
    worker.onmessageerror = () => {
      this.#fail(new UnavailableError("Cannot encode a layer on another thread: an answer cannot be read"));
    };
    return worker;
  }

  /** A worker that has ended itself, or was ended, tells nobody. */
  #giveUp(): void {
    const seconds = this.#answerMsMax / 1000;
    this.#fail(
      new UnavailableError(`Cannot encode a layer on another thread: no answer within ${seconds} s`, {
        hint: "Layers are encoded on the main thread from now on; --encoder off does so from the start.",
      }),
    );
  }

  #fail(failure: UnavailableError): void {
    this.#failure ??= failure;
    this.#worker?.terminate();
    this.#worker = undefined;
    for (const run of this.#runs.values()) run.wake?.();
  }

  close(): void {
    this.#fail(new UnavailableError("Cannot encode a layer on another thread: the encoder was closed"));
  }
}
