/**
 * Hono: the routes of `src/status/app.ts`, and nothing else. Web-standard code, so that the app mounts in an edge worker
 * too.
 *
 * @module
 */
export { type Context, Hono, type MiddlewareHandler } from "npm:hono@4.13.19";
