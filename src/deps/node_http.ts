/**
 * HTTP as `node:` built-ins give it on Deno, Bun, Node and workerd: what minio-js speaks, and what our limits on its
 * requests are made of.
 *
 * @module
 */
export { Buffer } from "node:buffer";
export { Agent as HttpAgent, request as httpRequest } from "node:http";
export type { ClientRequest, IncomingMessage } from "node:http";
export { Agent as HttpsAgent, request as httpsRequest } from "node:https";
export { Readable } from "node:stream";
