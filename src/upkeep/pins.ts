/**
 * Pins: named LSNs that stay readable when the cut-off has passed them, until they are removed or expire.
 *
 * Upkeep, as a guest of the timeline's writer.
 *
 * @module
 */
import { NotFoundError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import type { Manifest, ManifestPin } from "../timeline/manifest.ts";
import { updateManifest } from "../timeline/manifest_store.ts";
import { checkHolds } from "./branch.ts";

export interface PinOptions {
  store: ObjectStore;
  clock: Clock;
  timeline: string;
  signal?: AbortSignal;
}

/**
 * Sets a pin, in the place of one of that name if there is one. Durable when it resolves.
 *
 * @throws {LsnNotReachedError} If the LSN is not durable. @throws {LsnCollectedError} If it is not kept any more.
 */
export async function setPin(pin: ManifestPin, options: PinOptions): Promise<Manifest> {
  const { store, clock, timeline, signal } = options;
  return await updateManifest(store, clock, timeline, (current) => {
    checkHolds(current, pin.lsn);
    return { pins: [...current.pins.filter(({ name }) => name !== pin.name), pin] };
  }, signal);
}

/** Removes a pin. @throws {NotFoundError} If there is none of that name. */
export async function removePin(name: string, options: PinOptions): Promise<Manifest> {
  const { store, clock, timeline, signal } = options;
  return await updateManifest(store, clock, timeline, ({ pins }) => {
    if (!pins.some((pin) => pin.name === name)) {
      throw new NotFoundError(`Cannot remove pin "${name}": timeline "${timeline}" has none of that name`);
    }
    return { pins: pins.filter((pin) => pin.name !== name) };
  }, signal);
}
