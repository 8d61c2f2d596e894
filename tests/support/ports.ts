/**
 * Free TCP ports on loopback for servers that must be told their port, and keep it over restarts.
 *
 * @module
 */

const LOWEST = 20_000;
const HIGHEST = 32_000;

/**
 * A port that nobody listens on. Below the range from which systems take the ports of outgoing connections, so that
 * it stays free while its server is down; random, so that parallel processes rarely draw the same.
 */
export function freePort(): number {
  for (let attempt = 0; attempt < 200; attempt++) {
    const port = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST));
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse) && !(error instanceof Deno.errors.PermissionDenied)) {
        throw error;
      }
    }
  }
  throw new Error(`Cannot find a free port in ${LOWEST}..${HIGHEST}`);
}
