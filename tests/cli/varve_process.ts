/**
 * The command line as a child process, with an environment that has nothing of the machine's own servers in it.
 *
 * @module
 */
const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

/** How a run ended, and what it printed. */
export interface VarveResult {
  code: number;
  stdout: string;
  stderr: string;
  /** Standard output as it is, for raw pages. */
  bytes: Uint8Array;
}

function environment(env: Record<string, string>): Record<string, string> {
  // An empty variable counts as not set.
  const emptied = Object.keys(Deno.env.toObject()).filter((name) => /^(VARVE|PG|AWS|MINIO)_?/.test(name));
  return { ...Object.fromEntries(emptied.map((name) => [name, ""])), NO_COLOR: "1", ...env };
}

/** Runs `varve ARGS` to its end. */
export async function varve(args: string[], env: Record<string, string> = {}): Promise<VarveResult> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", MAIN, ...args],
    env: environment(env),
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr), bytes: stdout };
}

/** A run that goes on until it is told to stop. */
export class VarveProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #stdout: Promise<string>;
  readonly #finished: Promise<void>;
  #stderr = "";
  #hasEnded = false;
  #changed: () => void = () => {};

  constructor(args: string[], env: Record<string, string> = {}) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", MAIN, ...args],
      env: environment(env),
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#stdout = new Response(this.#child.stdout).text();
    this.#finished = this.#collect();
  }

  /** Resolves with the match when standard error has something that fits; fails when the process ends before. */
  async said(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.#stderr);
      if (match !== null) return match;
      if (this.#hasEnded) throw new Error(`varve ended before it said ${pattern}:\n${this.#stderr}`);
      await new Promise<void>((resolve) => this.#changed = resolve);
    }
  }

  signal(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Waits for its end. */
  async end(): Promise<VarveResult> {
    const { code } = await this.#child.status;
    await this.#finished;
    return { code, stdout: await this.#stdout, stderr: this.#stderr, bytes: new Uint8Array() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#hasEnded) this.#child.kill("SIGKILL");
    await this.end();
  }

  async #collect(): Promise<void> {
    for await (const text of this.#child.stderr.pipeThrough(new TextDecoderStream())) {
      this.#stderr += text;
      this.#changed();
    }
    this.#hasEnded = true;
    this.#changed();
  }
}
