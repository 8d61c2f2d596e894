/**
 * commander: takes the command line apart and writes the help. Only `src/cli/config.ts` and `src/cli/main.ts` see it.
 *
 * Version 14 and not 15: it has no dependencies either, and runs on Node 20.
 *
 * @module
 */
export { Command, CommanderError, Option } from "npm:commander@14.0.3";
