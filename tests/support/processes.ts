/**
 * Child processes for tests and demos: run one to its end, know whether one lives, and guard servers so that they end
 * and their files go even when this process is killed.
 *
 * @module
 */
import process from "node:process";

/** Whose rights a child gets: none given means our own. */
export interface ProcessUser {
  readonly uid?: number;
  readonly gid?: number;
}

/** Output of a child that ended well. */
export interface CommandOutput {
  stdout: string;
  stderr: string;
}

export interface CommandOptions {
  /** The child's whole environment when given; else it inherits ours. */
  env?: Record<string, string>;
  cwd?: string;
  user?: ProcessUser;
  signal?: AbortSignal;
}

/**
 * Runs a program to its end.
 *
 * @throws {Error} If it cannot be started or ends with another code than 0; the message holds its output's end.
 */
export async function runCommand(
  program: string,
  args: string[],
  options: CommandOptions = {},
): Promise<CommandOutput> {
  const output = await new Deno.Command(program, {
    args,
    cwd: options.cwd,
    env: options.env,
    clearEnv: options.env !== undefined,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal: options.signal,
    ...options.user,
  }).output();
  const decoder = new TextDecoder();
  const [stdout, stderr] = [decoder.decode(output.stdout), decoder.decode(output.stderr)];
  if (!output.success) {
    const how = output.signal === null ? `code ${output.code}` : output.signal;
    throw new Error(
      `Cannot run ${program} ${args.join(" ")}: it ended with ${how}: ${(stderr || stdout).slice(-4000)}`,
    );
  }
  return { stdout, stderr };
}

/** Where a program lies on the PATH. Folders that we may not look into do not count. */
export function findProgram(name: string): string | undefined {
  const folders = (Deno.env.get("PATH") ?? "").split(":").filter((folder) => folder !== "");
  return folders.map((folder) => `${folder}/${name}`).find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });
}

/**
 * The user that a server which refuses root runs as: ourselves, or when we are root the first of postgres and nobody.
 */
export function unprivilegedUser(): ProcessUser {
  if (Deno.build.os === "windows" || Deno.uid() !== 0) return {};
  const passwd = new Map(
    Deno.readTextFileSync("/etc/passwd").split("\n").map((line) => {
      const [name, , uid, gid] = line.split(":");
      return [name, { uid: Number(uid), gid: Number(gid) }];
    }),
  );
  return passwd.get("postgres") ?? passwd.get("nobody") ?? {};
}

/** Whether a process exists and is not a zombie that nobody has reaped. */
export function isAlive(pid: number): boolean {
  if (Deno.build.os === "linux") {
    const stat = readStat(pid);
    return stat !== undefined && stat.state !== "Z" && stat.state !== "X";
  }
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code === "EPERM";
  }
}

/** The direct children of a process, at this moment. */
export async function childrenOf(pid: number): Promise<number[]> {
  if (Deno.build.os !== "linux") {
    // pgrep ends with 1 when there are none.
    const { stdout } = await runCommand("sh", ["-c", `pgrep -P ${pid} || true`]);
    return stdout.split("\n").filter((line) => line !== "").map(Number);
  }
  const children: number[] = [];
  for (const entry of Deno.readDirSync("/proc")) {
    if (/^\d+$/.test(entry.name) && readStat(Number(entry.name))?.parent === pid) {
      children.push(Number(entry.name));
    }
  }
  return children;
}

/** State and parent from `/proc/PID/stat`; the command's name in it may hold spaces and brackets. */
function readStat(pid: number): { state: string; parent: number } | undefined {
  let text: string;
  try {
    text = Deno.readTextFileSync(`/proc/${pid}/stat`);
  } catch {
    return undefined; // it ended
  }
  const [state, parent] = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { state, parent: Number(parent) };
}

/** Signals a process that may have ended already. */
export function kill(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(pid, signal);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound) && isAlive(pid)) throw error;
  }
}

/** Ends a server and removes its folder when this process is gone, however it went. */
export interface Guardian {
  /** The server has been ended and its folder removed in the regular way. */
  release(): Promise<void>;
}

/**
 * Waits for the end of its input, which the system closes when our process ends. The first line of the pid file is
 * read only then: the server may have been started anew since.
 */
const GUARDIAN_SCRIPT = `
trap '' INT TERM HUP
read -r word && [ "$word" = released ] && exit 0
pid=$(head -n 1 "$1" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null && {
  for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" 2>/dev/null || break; sleep 0.5; done
  kill -KILL "$pid" 2>/dev/null
}
rm -rf "$2"
`;

/** Starts the guardian of one server: `pidFile`'s first line names its process, `directory` is removed after it. */
export function guard(pidFile: string, directory: string): Guardian {
  if (Deno.build.os === "windows") return { release: () => Promise.resolve() };
  const child = new Deno.Command("/bin/sh", {
    args: ["-c", GUARDIAN_SCRIPT, "guardian", pidFile, directory],
    stdin: "piped",
    stdout: "null",
    stderr: "null",
  }).spawn();
  child.unref();
  return {
    release: async () => {
      child.ref();
      const writer = child.stdin.getWriter();
      await writer.write(new TextEncoder().encode("released\n"));
      await writer.close();
      await child.status;
    },
  };
}
