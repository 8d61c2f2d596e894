/**
 * The real clock, under the name by which stores and tests know it. It needs nothing of a runtime but web standards, so it
 * lives in the portable core.
 *
 * @module
 */
export { systemClock } from "../flow/system_clock.ts";
