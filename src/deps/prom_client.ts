/**
 * prom-client: what `src/status/metrics.ts` counts with. Its default metrics of the process are never asked for: they
 * fail on Deno and Bun.
 *
 * @module
 */
export { Counter, Gauge, Histogram, Registry } from "npm:prom-client@15.1.3";
