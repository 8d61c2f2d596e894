/**
 * esbuild: bundles for Node, Bun and workers. Only `tools/build.ts` and the tests of other runtimes import it; no part of
 * varve does.
 *
 * @module
 */
export { build, type BuildOptions, type Plugin, stop } from "npm:esbuild@0.28.2";
