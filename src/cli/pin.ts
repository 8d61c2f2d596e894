/**
 * `varve pin`: names a moment of a timeline's history that stays readable whatever retention collects.
 *
 * @module
 */
import { NotFoundError } from "../errors.ts";
import { formatLsn } from "../lsn.ts";
import { attachReader } from "../read/attach.ts";
import type { ManifestPin } from "../timeline/manifest.ts";
import { readManifest } from "../timeline/manifest_store.ts";
import { removePin, setPin } from "../upkeep/pins.ts";
import { Cleanup } from "./cleanup.ts";
import { defaulted, optional, type OptionValues, text } from "./config.ts";
import { EXIT_OK, UsageError } from "./exit_codes.ts";
import { MOMENT_ARGUMENT, momentValue, resolveMoment } from "./moments.ts";
import { openForReading, openForWriting } from "./stores.ts";
import { durationValue } from "./values.ts";
import { COMMON, defineVerb, jsonDocument, STORE, TIMELINE, type VerbContext } from "./verb.ts";

const OPTIONS = {
  ...COMMON,
  store: STORE,
  timeline: TIMELINE,
  at: defaulted(MOMENT_ARGUMENT, "The moment that stays readable", "latest", momentValue),
  for: optional("DURATION", "Until so long from now, say 30d; else until it is removed", durationValue),
  remove: optional("NAME", "Remove a pin", text),
};

type PinValues = OptionValues<typeof OPTIONS>;

export const pinVerb = defineVerb({
  name: "pin",
  summary: "Keep one moment of history readable, whatever is collected. Without a name, list pins.",
  details: "  varve pin --store s3://bucket/prefix --at 2025-06-01T12:00:00Z --for 365d year-end",
  options: OPTIONS,
  operands: "name",
  operandsOptional: true,
  run: ({ values, operands }, context) => runPin(values, operands, context),
});

async function runPin(values: PinValues, operands: string[], context: VerbContext): Promise<number> {
  const [name] = operands;
  if (operands.length > 1 || (name !== undefined && values.remove !== undefined)) {
    throw new UsageError(
      'Cannot run "varve pin": expected the name of one pin, --remove NAME, or nothing',
      '"varve pin --help" shows what it takes.',
    );
  }
  const { terminal, clock, reporter } = context;
  const { timeline, remove } = values;
  const isList = name === undefined && remove === undefined;
  await using cleanup = new Cleanup();
  const { store } = await (isList ? openForReading : openForWriting)(values.store, context);
  cleanup.defer(() => store.close());
  if (name !== undefined) {
    checkPinName(name);
    const attached = await attachReader({ store, clock, timeline, events: reporter.onEvent });
    cleanup.defer(() => attached.close());
    const lsn = await resolveMoment(attached.reader, values.at);
    const expiresAtMs = values.for === undefined ? undefined : clock.now() + values.for;
    await setPin({ name, lsn, ...(expiresAtMs !== undefined && { expiresAtMs }) }, {
      store,
      clock,
      timeline,
    });
  } else if (remove !== undefined) await removePin(remove, { store, clock, timeline });
  const stored = await readManifest(store, timeline);
  if (stored === undefined) {
    throw new NotFoundError(
      `Cannot list pins of timeline "${timeline}": ${store.description} has none of that name`,
    );
  }
  const { pins } = stored.manifest;
  await terminal.write(values.json ? jsonDocument(pins.map(asJson)) : asText(pins));
  return EXIT_OK;
}

function checkPinName(name: string): void {
  if (/^[\x21-\x7e]{1,128}$/.test(name)) return;
  throw new UsageError(
    `Cannot use "${name}" as the name of a pin: expected 1 to 128 visible ASCII characters`,
    "Choose another name.",
  );
}

function asJson({ name, lsn, expiresAtMs }: ManifestPin) {
  return {
    name,
    lsn: formatLsn(lsn),
    expiresAt: expiresAtMs === undefined ? null : new Date(expiresAtMs).toISOString(),
  };
}

function asText(pins: readonly ManifestPin[]): string {
  if (pins.length === 0) return "There are no pins.\n";
  return pins.map(({ name, lsn, expiresAtMs }) => {
    const until = expiresAtMs === undefined ? "" : ` until ${new Date(expiresAtMs).toISOString()}`;
    return `${name}: ${formatLsn(lsn)}${until}\n`;
  }).join("");
}
