/**
 * Which varve this is, as the status endpoint and the metrics tell it.
 *
 * @module
 */

/** As in deno.json, which a test compares. */
export const VERSION = "0.1.0";
