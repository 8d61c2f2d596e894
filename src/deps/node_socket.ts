/**
 * TCP and TLS sockets to PostgreSQL with `node:net` and `node:tls`: they work on Deno, Node and Bun.
 *
 * postgres.js could open them itself, but verifies too little (`require` and `prefer` nothing, `verify-full` by address
 * a certificate for "localhost"), goes on with TLS when the server has declined it, and gives no hold of the socket.
 *
 * @module
 */
import net from "node:net";
import tls from "node:tls";
import type { DriverTarget, DriverTls, TransportError } from "../ports/postgres_driver.ts";

/** `SSLRequest`: length 8, code 1234.5679. */
const SSL_REQUEST = new Uint8Array([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
const SERVER_ACCEPTS = 0x53; // S
const SERVER_DECLINES = 0x4e; // N
/** Finds a peer that vanished without a word, also while nothing is sent. */
const KEEP_ALIVE_MS = 30_000;

/** Makes an error that says in which phase it happened. */
export function transportError(
  phase: TransportError["phase"],
  message: string,
  cause?: unknown,
): TransportError {
  return Object.assign(new Error(message, { cause }), { phase });
}

/**
 * Connects and encrypts.
 *
 * Rejects with a TransportError, or with the signal's reason; the socket is destroyed then.
 */
export async function openNodeSocket(
  target: DriverTarget,
  signal: AbortSignal,
): Promise<{ socket: net.Socket; encrypted: boolean }> {
  signal.throwIfAborted();
  const path = target.host.startsWith("/") ? `${target.host}/.s.PGSQL.${target.port}` : undefined;
  const socket = path === undefined ? net.connect(target.port, target.host) : net.connect(path);
  let current = socket;
  let onAbort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
  });
  try {
    ignoreErrors(socket);
    await Promise.race([aborted, until(socket, "connect", "connect")]);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    // A Unix socket never encrypts.
    if (target.tls === undefined || path !== undefined) return { socket, encrypted: false };
    const accepted = await Promise.race([aborted, requestTls(socket)]);
    if (!accepted) {
      if (target.tls.optional) return { socket, encrypted: false };
      throw transportError("tls", "the server offers no encryption");
    }
    const secured = tls.connect(tlsOptions(socket, target.host, target.tls));
    current = secured;
    ignoreErrors(secured);
    await Promise.race([aborted, until(secured, "secureConnect", "tls")]);
    return { socket: secured, encrypted: true };
  } catch (error) {
    current.destroy();
    socket.destroy();
    throw error;
  } finally {
    aborted.catch(() => {});
    signal.removeEventListener("abort", onAbort);
  }
}

/** An error without a listener would end the process; a close follows each, and that one is listened to. */
function ignoreErrors(socket: net.Socket): void {
  socket.on("error", () => {});
}

/** Waits for an event; an error or a close instead rejects. Takes its listeners off again. */
function until(socket: net.Socket, event: string, phase: TransportError["phase"]): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error) => {
      socket.off(event, onEvent);
      socket.off("error", onError);
      socket.off("close", onClose);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onEvent = () => settle();
    const onError = (error: Error) => settle(transportError(phase, describe(error), error));
    const onClose = () => settle(transportError(phase, "the peer closed the connection"));
    socket.on(event, onEvent);
    socket.on("error", onError);
    socket.on("close", onClose);
  });
}

/** A name that resolves to several addresses fails with an error that only holds those of each. */
function describe(error: Error): string {
  const errors = (error as AggregateError).errors;
  if (error.message === "" && Array.isArray(errors)) return errors.map((each) => each.message).join("; ");
  return error.message || (error as { code?: string }).code || error.name;
}

async function requestTls(socket: net.Socket): Promise<boolean> {
  let answer: Uint8Array | undefined;
  const onData = (bytes: Uint8Array) => {
    answer = bytes;
    socket.pause(); // what follows belongs to TLS
    socket.emit("varve:answer");
  };
  socket.on("data", onData);
  try {
    socket.write(SSL_REQUEST);
    await until(socket, "varve:answer", "tls");
  } finally {
    socket.off("data", onData);
  }
  // More than one byte here would be plain text that an attacker wants taken for encrypted (CVE-2021-23222).
  if (answer!.length === 1 && answer![0] === SERVER_ACCEPTS) return true;
  if (answer!.length === 1 && answer![0] === SERVER_DECLINES) {
    socket.resume();
    return false;
  }
  throw transportError(
    "tls",
    "the server answered the request for encryption with something else than S or N",
  );
}

function tlsOptions(socket: net.Socket, host: string, wanted: DriverTls): tls.ConnectionOptions {
  return {
    socket,
    servername: net.isIP(host) === 0 ? host : undefined,
    ca: wanted.authority,
    cert: wanted.certificate,
    key: wanted.key,
    rejectUnauthorized: wanted.verify !== "none",
    // Given always: left to itself, node:tls checks against "localhost" where there is no server name.
    checkServerIdentity: (_, certificate) =>
      wanted.verify === "chain-and-host" ? tls.checkServerIdentity(host, certificate) : undefined,
  };
}
