/**
 * `varve.js`, the command of the bundle: `src/cli/main.ts` as a program. Older Nodes cannot tell a module whether it is one.
 *
 * @module
 */
import process from "node:process";
import { main } from "../src/cli/main.ts";

process.exit(await main(process.argv.slice(2), process.env));
