/**
 * How verbs that write layers do it: compressed or not, on this thread or another.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import type { BlockCodec } from "../bytes/block_codec.ts";
import { LZ4_CODEC } from "../bytes/portable_codecs.ts";
import { openLayerEncoder } from "../deps/layer_encoder.ts";
import { nodeZstdCodec } from "../deps/node_zstd.ts";
import { UnsupportedError } from "../errors.ts";
import type { WriterOptions } from "../varve.ts";
import type { Cleanup } from "./cleanup.ts";
import { defaulted, oneOf } from "./config.ts";

/** Options of verbs that write layers. */
export const LAYER_WRITING = {
  compress: defaulted(
    "CODEC",
    "Compresses new layers: none, lz4 or zstd",
    "none",
    oneOf("none", "lz4", "zstd"),
  ),
  encoder: defaulted(
    "WHEN",
    "Another thread encodes layers: auto (where there are two processors), on or off",
    "auto",
    oneOf("auto", "on", "off"),
  ),
};

/** What was chosen by {@linkcode LAYER_WRITING}. */
export interface LayerWritingValues {
  readonly compress: "none" | "lz4" | "zstd";
  readonly encoder: "auto" | "on" | "off";
}

/** Processors from which on following and encoding do not take turns. */
const PROCESSORS_MIN = 2;

/**
 * Opens what was chosen; it is closed with the rest.
 *
 * @throws {UnsupportedError} If this runtime cannot do what was asked for.
 */
export function openLayerWriting(
  values: LayerWritingValues,
  cleanup: Cleanup,
): Pick<WriterOptions, "codec" | "encoder"> {
  const codec = codecOf(values.compress);
  const isWanted = values.encoder === "on" ||
    (values.encoder === "auto" && availableParallelism() >= PROCESSORS_MIN);
  const encoder = isWanted ? openLayerEncoder() : undefined;
  if (values.encoder === "on" && encoder === undefined) {
    throw new UnsupportedError(
      "Cannot encode layers on another thread: this runtime has no workers, or may not load one",
      {
        hint: "Use --encoder auto; under Deno, allow reading of varve's own source files.",
      },
    );
  }
  if (encoder !== undefined) cleanup.defer(() => encoder.close());
  return { codec, encoder };
}

function codecOf(name: LayerWritingValues["compress"]): BlockCodec | undefined {
  if (name === "none") return undefined;
  const codec = name === "lz4" ? LZ4_CODEC : nodeZstdCodec();
  if (codec !== undefined) return codec;
  throw new UnsupportedError("Cannot compress with zstd: this runtime has no compressor for it", {
    hint: "Use --compress lz4.",
  });
}
