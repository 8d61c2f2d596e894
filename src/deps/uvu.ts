/**
 * uvu: the test runner outside `deno test`, and the assertions everywhere. Only `tests/support/harness.ts` imports it.
 *
 * @module
 */
export { suite as uvuSuite } from "npm:uvu@0.5.6";
export * as uvuAssert from "npm:uvu@0.5.6/assert";
