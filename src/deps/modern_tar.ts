/**
 * modern-tar: reads tar archives as web streams, strictly, without a dependency of its own. For base backups.
 *
 * @module
 */
export { createTarDecoder } from "npm:modern-tar@0.8.6";
