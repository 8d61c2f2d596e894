/**
 * postgres.js: the PostgreSQL client of the replication source, and of tests.
 *
 * @module
 */
export { default as postgres } from "npm:postgres@3.4.9";
