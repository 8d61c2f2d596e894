/**
 * A TCP proxy on loopback that a test may have misbehave: in front of a real server, for what no server does on request.
 *
 * @module
 */

/** What happens to a connection from now on. */
export type ProxyFault =
  /** Closed at once. */
  | { kind: "refuse" }
  /** The client's bytes reach the server, the answer does not reach the client. */
  | { kind: "lose answer" }
  /** So many bytes of answers pass, then the connection is closed. */
  | { kind: "cut"; after: number }
  /** So many bytes of answers pass, then nothing, and the connection stays. */
  | { kind: "stall"; after: number }
  /** The bit of the answer's byte at `after` is turned over. */
  | { kind: "damage"; after: number }
  /** The first request is answered so, without the server. */
  | { kind: "status"; status: 429 | 503 }
  | { kind: "delay"; ms: number };

/** See the module's description. */
export class TcpProxy implements AsyncDisposable {
  readonly port: number;
  /** Connections that were given a fault. */
  faults = 0;
  connections = 0;
  /** Asked once for every connection. */
  fault: () => ProxyFault | undefined = () => undefined;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #target: number;
  readonly #open = new Set<Deno.Conn>();
  readonly #served: Promise<void>;

  constructor(targetPort: number) {
    this.#target = targetPort;
    this.port = (this.#listener.addr as Deno.NetAddr).port;
    this.#served = this.#serve();
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Ends the connections that are open, so that the next request makes a new one. */
  disconnect(): void {
    for (const connection of this.#open) this.#close(connection);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.disconnect();
    await this.#served;
  }

  async #serve(): Promise<void> {
    try {
      for await (const client of this.#listener) {
        this.connections++;
        this.#open.add(client);
        this.#converse(client).catch(() => {}).finally(() => this.#close(client));
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
  }

  async #converse(client: Deno.Conn): Promise<void> {
    const fault = this.fault();
    if (fault !== undefined) this.faults++;
    if (fault?.kind === "refuse") return;
    if (fault?.kind === "delay") await new Promise((resolve) => setTimeout(resolve, fault.ms));
    if (fault?.kind === "status") {
      await client.read(new Uint8Array(65_536));
      const text = `HTTP/1.1 ${fault.status} Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`;
      await client.write(new TextEncoder().encode(text));
      return;
    }
    const server = await Deno.connect({ hostname: "127.0.0.1", port: this.#target });
    this.#open.add(server);
    try {
      await Promise.race([
        this.#pump(client, server),
        this.#pump(server, client, fault),
      ]);
    } finally {
      this.#close(server);
    }
  }

  async #pump(from: Deno.Conn, to: Deno.Conn, fault?: ProxyFault): Promise<void> {
    const buffer = new Uint8Array(65_536);
    let passed = 0;
    for (;;) {
      const count = await from.read(buffer);
      if (count === null) return;
      let bytes = buffer.subarray(0, count);
      if (fault?.kind === "lose answer") return;
      const after = fault !== undefined && "after" in fault ? fault.after - passed : Infinity;
      if (after >= 0 && after < bytes.length) {
        if (fault!.kind === "damage") bytes[after] ^= 1;
        else bytes = bytes.subarray(0, after);
      }
      for (let done = 0; done < bytes.length;) done += await to.write(bytes.subarray(done));
      passed += count;
      if (after > count) continue;
      if (fault?.kind === "cut") return;
      if (fault?.kind === "stall") await new Promise(() => {});
    }
  }

  #close(connection: Deno.Conn): void {
    if (!this.#open.delete(connection)) return;
    try {
      connection.close();
    } catch {
      // The other side was first.
    }
  }
}
