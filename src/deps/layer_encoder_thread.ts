/**
 * The worker of a layer encoder: rebuilds memory layers from snapshots and posts their files chunk by chunk.
 *
 * Loaded by deps/layer_encoder.ts as the module of a worker, never imported.
 *
 * @module
 */
import type { LayerSummary } from "../layer/layer_writer.ts";
import { MemoryLayer } from "../layer/memory_layer.ts";
import { SpaceTable } from "../layer/space_table.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import { memoryLayerFile } from "../write/memory_layer_file.ts";
import {
  type EncoderAnswer,
  type EncoderRequest,
  postedError,
  threadCodec,
} from "./layer_encoder_messages.ts";

/** What a worker's global scope has; the portable type library knows only windows. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<EncoderRequest>) => void) | null;
  postMessage(message: EncoderAnswer, transfer: Transferable[]): void;
}

interface Run {
  readonly file: Iterator<Uint8Array, LayerSummary>;
  credit: number;
}

/** Longer than in place: a busy thread has little time for each, whatever its length. */
const CHUNK_BYTES = 2 * 1024 * 1024;

const scope = globalThis as unknown as WorkerScope;
const runs = new Map<number, Run>();

scope.onmessage = ({ data }) => {
  const number = data.run;
  if (data.kind === "end") return void runs.delete(number);
  try {
    if (data.kind === "encode") {
      const spaces = new SpaceTable();
      const memory = MemoryLayer.fromSnapshot(data.snapshot, spaces);
      const codec = data.codec === undefined ? undefined : threadCodec(data.codec);
      const file = memoryLayerFile(memory, spaces, profileOfMajor(data.major), {
        codec,
        chunkBytes: CHUNK_BYTES,
      });
      runs.set(number, { file, credit: data.credit });
    } else {
      const run = runs.get(number);
      if (run !== undefined) run.credit++;
    }
    advance(number);
  } catch (error) {
    runs.delete(number);
    scope.postMessage({ kind: "failed", run: number, error: postedError(error) }, []);
  }
};

/** Makes chunks while there is credit. */
function advance(number: number): void {
  const run = runs.get(number);
  while (run !== undefined && run.credit > 0) {
    const step = run.file.next();
    if (step.done === true) {
      scope.postMessage({ kind: "done", run: number, summary: step.value }, []);
      return void runs.delete(number);
    }
    run.credit--;
    const chunk = step.value;
    scope.postMessage({ kind: "chunk", run: number, chunk }, [chunk.buffer as ArrayBuffer]);
  }
}
