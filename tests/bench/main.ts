/**
 * All benches, or those whose name is given: `deno task bench [decode] [receive] [redo] [ingest] [get_page] [layer] [compaction]`.
 *
 * Every figure stands beside its peer's of the same run: machines differ and are noisy, ratios less so.
 *
 * @module
 */
const BENCHES = [
  "decode",
  "receive",
  "redo",
  "ingest",
  "get_page",
  "layer",
  "compaction",
  "on_demand",
  "restore",
  "verify",
];

const chosen = Deno.args.length > 0 ? Deno.args : BENCHES;
for (const name of chosen) {
  if (!BENCHES.includes(name)) {
    console.error(`Cannot run bench "${name}": expected one of ${BENCHES.join(", ")}`);
    Deno.exit(2);
  }
  console.log(`\n== ${name}`);
  const script = new URL(`./${name}_bench.ts`, import.meta.url).pathname;
  const { success } = await new Deno.Command(Deno.execPath(), { args: ["run", "-A", script], stdin: "null" })
    .spawn().status;
  if (!success) Deno.exit(1);
}
