/**
 * `varve layers`: the layer files of a timeline, and which are local; downloads, evicts, or takes one apart byte by byte.
 *
 * @module
 */
import { open, stat } from "node:fs/promises";
import { PORTABLE_CODECS } from "../bytes/portable_codecs.ts";
import { NotFoundError } from "../errors.ts";
import { formatLsn } from "../lsn.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { dumpLayer } from "../layer/layer_dump.ts";
import { parseLayerName } from "../layer/layer_name.ts";
import type { LayerSource } from "../layer/layer_reader.ts";
import { DownloadTask } from "../read/download_all.ts";
import { LayerFiles } from "../read/layer_files.ts";
import { openLocalLayers } from "../store/local_layers.ts";
import { describeManifestLayer } from "../timeline/manifest.ts";
import { readManifest } from "../timeline/manifest_store.ts";
import { manifestKey } from "../timeline/object_keys.ts";
import { Cleanup } from "./cleanup.ts";
import { flag, optional, type OptionValues, text } from "./config.ts";
import { EXIT_CORRUPTION, EXIT_OK, UsageError } from "./exit_codes.ts";
import { openForReading } from "./stores.ts";
import { formatBytes, plural, storeValue } from "./values.ts";
import { COMMON, defineVerb, jsonDocument, TIMELINE, type VerbContext } from "./verb.ts";

const OPTIONS = {
  ...COMMON,
  store: optional("URL", "file:///directory, or s3://…; not needed to dump a file", storeValue),
  timeline: TIMELINE,
  cache: optional("DIR", "The directory of local copies, as follow has it", text),
  download: flag("Makes layers resident: those named, or with --all every one"),
  evict: flag("Removes local copies: of those named, or with --all of every one"),
  all: flag("Every layer"),
  dump: optional("NAME|FILE", "Prints a layer byte range by byte range, with what each means", text),
};

type LayersValues = OptionValues<typeof OPTIONS>;

export const layersVerb = defineVerb({
  name: "layers",
  summary: "List the layer files of a timeline; download, evict or dump them.",
  details:
    "Downloading and evicting are for a directory that no other process uses: a follower has the same over HTTP, see\n" +
    "--listen. Example: varve layers --store file:///srv/varve --cache /var/cache/varve --download --all",
  options: OPTIONS,
  operands: "layer",
  operandsOptional: true,
  run: ({ values, operands }, context) => runLayers(values, operands, context),
});

async function runLayers(values: LayersValues, names: string[], context: VerbContext): Promise<number> {
  checkUsage(values, names);
  const { dump } = values;
  if (dump !== undefined && await isFile(dump)) return await dumpFile(dump, context);
  if (values.store === undefined) {
    throw new UsageError("Cannot do without --store", "It says where the layers are.");
  }
  await using cleanup = new Cleanup();
  const { store } = await openForReading(values.store, context);
  cleanup.defer(() => store.close());
  const stored = await readManifest(store, values.timeline);
  if (stored === undefined) {
    throw new NotFoundError(
      `Cannot list layers of timeline "${values.timeline}": ${store.description} has none of that name`,
    );
  }
  const object = manifestKey(values.timeline);
  const layers = stored.manifest.layers.map((layer) => describeManifestLayer(layer, object));
  // What is there beyond the manifest is left alone: it may be a follower's, on its way to the store.
  const local = values.cache === undefined
    ? undefined
    : await openLocalLayers(`${values.cache}/${values.timeline}`, { shared: true });
  const { clock, reporter: { onEvent: events } } = context;
  const files = new LayerFiles({ timeline: values.timeline, store, local, clock, events });
  cleanup.defer(() => files.close());
  const sizes = new Map((await local?.list() ?? []).map(({ name, size }) => [name, size]));
  for (const layer of layers) if (sizes.get(layer.name) === layer.size) files.noteResident(layer);
  if (dump !== undefined) {
    const [layer] = chosen(layers, [dump]);
    return await dumpSource(files.source(layer), layer.name, context);
  }
  const wanted = names.length === 0 ? layers : chosen(layers, names);
  if (values.download) return await download(files, wanted, context);
  if (values.evict) return await evict(files, wanted, context);
  return await list(files, wanted, context);
}

function checkUsage({ download, evict, all, dump, cache }: LayersValues, names: string[]): void {
  const refuse = (what: string, hint: string) => {
    throw new UsageError(`Cannot use ${what}`, hint);
  };
  if (download && evict) refuse("--download and --evict together", "Give one of them.");
  if (dump !== undefined && (download || evict)) refuse("--dump with others", "Dump by itself.");
  if (!download && !evict) return;
  if (cache === undefined) refuse("--download or --evict without --cache", "It says where local copies are.");
  if (all === names.length > 0) refuse("it so", "Name layers, or give --all.");
}

/** The layers of these names, in the order of the manifest. */
function chosen(layers: readonly LayerDescriptor[], names: readonly string[]): LayerDescriptor[] {
  for (const name of names) {
    if (layers.some((layer) => layer.name === name)) continue;
    const what = parseLayerName(name) === undefined
      ? "that is no layer name, nor a file"
      : "the timeline has none of it";
    throw new NotFoundError(`Cannot find layer ${name}: ${what}`, { hint: '"varve layers" lists them.' });
  }
  return layers.filter(({ name }) => names.includes(name));
}

async function list(files: LayerFiles, layers: LayerDescriptor[], context: VerbContext): Promise<number> {
  const { terminal, reporter } = context;
  const rows = layers.map((layer) => ({
    name: layer.name,
    kind: layer.kind,
    level: layer.level,
    lsnStart: formatLsn(layer.lsnStart),
    lsnEnd: formatLsn(layer.lsnEnd),
    size: layer.size,
    location: files.isResident(layer.name) ? "resident" : "remote",
  }));
  const total = layers.reduce((sum, { size }) => sum + size, 0);
  if (reporter.json) {
    const sizes = { residentPhysicalSize: files.residentBytes, currentPhysicalSize: total };
    await terminal.write(jsonDocument({ ...sizes, layers: rows }));
    return EXIT_OK;
  }
  const lines = rows.map(({ name, kind, level, lsnStart, lsnEnd, size, location }) =>
    `${kind.padEnd(5)}  ${level}  ${lsnStart.padStart(12)}  ${
      (kind === "image" ? "" : lsnEnd).padStart(12)
    }  ${formatBytes(size).padStart(10)}  ${location.padEnd(8)}  ${name}\n`
  );
  const resident = rows.filter(({ location }) => location === "resident").length;
  await terminal.write(
    `${"kind".padEnd(5)}  L  ${"from".padStart(12)}  ${"to".padStart(12)}  ${
      "size".padStart(10)
    }  where     name\n` +
      lines.join("") +
      `${plural(rows.length, "layer")}, ${formatBytes(total)}; ${resident} resident, ${
        formatBytes(files.residentBytes)
      }\n`,
  );
  return EXIT_OK;
}

async function download(files: LayerFiles, layers: LayerDescriptor[], context: VerbContext): Promise<number> {
  const { terminal, reporter } = context;
  const task = new DownloadTask(files, layers);
  await task.ended;
  const result = { total: task.total, resident: task.done, failed: task.failed, bytes: task.doneBytes };
  if (reporter.json) await terminal.write(jsonDocument(result));
  else {await terminal.write(
      `${task.done} of ${plural(task.total, "layer")} resident, ${formatBytes(task.doneBytes)}\n`,
    );}
  if (task.failed > 0) throw task.failure;
  return EXIT_OK;
}

async function evict(files: LayerFiles, layers: LayerDescriptor[], context: VerbContext): Promise<number> {
  const { terminal, reporter } = context;
  let evicted = 0;
  for (const { name } of layers) if (await files.evict(name) === "evicted") evicted++;
  const { evictedBytes } = files.counters;
  if (reporter.json) await terminal.write(jsonDocument({ evicted, bytes: evictedBytes }));
  else await terminal.write(`${plural(evicted, "layer")} evicted, ${formatBytes(evictedBytes)}\n`);
  return EXIT_OK;
}

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then((found) => found.isFile(), () => false);
}

async function dumpFile(path: string, context: VerbContext): Promise<number> {
  await using cleanup = new Cleanup();
  const file = await open(path, "r");
  cleanup.defer(() => file.close());
  const { size } = await file.stat();
  const source: LayerSource = {
    size,
    readRange: async (offset, length) => {
      const bytes = new Uint8Array(length);
      const { bytesRead } = await file.read(bytes, 0, length, offset);
      return bytes.subarray(0, bytesRead);
    },
  };
  return await dumpSource(source, path, context);
}

/** Writes the dump as it comes; damage is shown in place, and told by the exit code. */
async function dumpSource(source: LayerSource, name: string, { terminal }: VerbContext): Promise<number> {
  const lines = dumpLayer(source, name, { codecs: PORTABLE_CODECS });
  for (;;) {
    const { done, value } = await lines.next();
    if (done) return value === 0 ? EXIT_OK : EXIT_CORRUPTION;
    await terminal.write(`${value}\n`);
  }
}
