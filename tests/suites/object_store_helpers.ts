/**
 * What the behaviours of object stores are written with.
 *
 * @module
 */
import { PreconditionFailedError } from "../../src/errors.ts";
import type { ObjectBody, ObjectInfo, ObjectStore } from "../../src/ports/object_store.ts";
import { assert } from "../support/harness.ts";

export const MiB = 1 << 20;

export function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

export function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

/** `size` bytes that differ everywhere. */
export function pattern(size: number, seed = 1): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(size / 4));
  for (let i = 0, x = seed; i < words.length; i++) words[i] = x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
  return new Uint8Array(words.buffer, 0, size);
}

/** A body that comes in pieces of uneven sizes. */
export function pieces(bytes: Uint8Array, pieceSize = 100_003): ObjectBody {
  return {
    size: bytes.length,
    async *open() {
      for (let at = 0; at < bytes.length; at += pieceSize) {
        await Promise.resolve();
        yield bytes.subarray(at, at + pieceSize);
      }
    },
  };
}

export async function collect(body: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  return new Uint8Array(await new Response(body as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer());
}

export async function listAll(store: ObjectStore, prefix: string): Promise<ObjectInfo[]> {
  const infos = [];
  for await (const info of store.list(prefix)) infos.push(info);
  return infos;
}

export async function keysOf(store: ObjectStore, prefix: string): Promise<string[]> {
  return (await listAll(store, prefix)).map(({ key }) => key);
}

export function sameBytes(got: Uint8Array, expected: Uint8Array, what: string): void {
  assert.is(got.length, expected.length, `${what}: length`);
  let at = 0;
  while (at < got.length && got[at] === expected[at]) at++;
  assert.is(at, got.length, `${what}: first difference`);
}

/** How many of the calls resolved; the others must have rejected with PreconditionFailedError. */
export async function winners<T>(calls: Promise<T>[]): Promise<{ index: number; value: T }[]> {
  const won: { index: number; value: T }[] = [];
  for (const [index, outcome] of (await Promise.allSettled(calls)).entries()) {
    if (outcome.status === "fulfilled") won.push({ index, value: outcome.value });
    else assert.instance(outcome.reason, PreconditionFailedError, String(outcome.reason));
  }
  return won;
}

/** Runs `work` for each of `count` indices, `width` at a time. */
export async function inParallel(
  count: number,
  width: number,
  work: (index: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: width }, async () => {
    while (next < count) await work(next++);
  }));
}

/** Registers a test that gets a store of its own. */
export type WithStore = (name: string, run: (store: ObjectStore) => Promise<void>) => void;
