// A child process on the same runtime that talks to the test in lines of JSON: commands on its standard input, reports on
// its standard output. What the child wrote before it was killed is still read, because it stands in the pipe.

import { spawn, type ChildProcess } from 'node:child_process';
import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';

export interface ChildOptions {
  readonly args?: readonly string[];
  /** Added to the environment of the test. */
  readonly env?: Readonly<Record<string, string>>;
  /** Options of the runtime, before the script. */
  readonly execArgv?: readonly string[];
  readonly cwd?: string;
  /** A program with arguments that ends by becoming the runtime: what follows is appended to it. */
  readonly through?: readonly string[];
  /** Called for each report, in order, before anybody who waits with `next`. */
  readonly onReport?: (report: unknown) => void;
}

export interface ChildExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface Child extends AsyncDisposable {
  readonly pid: number;
  /** Resolves when the process has ended and all that it wrote has been read. */
  readonly exited: Promise<ChildExit>;
  readonly running: boolean;
  send(command: unknown): void;
  /** The next report, not yet taken, that `accepts` takes. Rejects when the child ends before. */
  next<T>(accepts: (report: unknown) => report is T, timeoutMs?: number): Promise<T>;
  /** Default SIGKILL. Resolves when it has ended. */
  kill(signal?: NodeJS.Signals): Promise<ChildExit>;
  /** The end of what it wrote to standard error. */
  errorOutput(): string;
}

const ERROR_OUTPUT_CHARS = 64 * 1024;

/** Starts `script` with the runtime of the test. */
export function startChild(script: string, options: ChildOptions = {}): Child {
  const own = [process.execPath, ...(options.execArgv ?? []), script, ...(options.args ?? [])];
  const [program = '', ...args] = [...(options.through ?? []), ...own];
  const spawned = spawn(program, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  return new LineChild(spawned, options.onReport);
}

interface Waiter {
  readonly accepts: (report: unknown) => boolean;
  readonly resolve: (report: unknown) => void;
  readonly reject: (error: Error) => void;
}

class LineChild implements Child {
  readonly exited: Promise<ChildExit>;
  readonly #process: ChildProcess;
  readonly #reports: unknown[] = [];
  readonly #waiters = new Set<Waiter>();
  #errorOutput = '';
  #ended = false;

  constructor(child: ChildProcess, onReport: ((report: unknown) => void) | undefined) {
    this.#process = child;
    // A child that was killed leaves a broken pipe to whoever writes to it.
    child.stdin?.on('error', () => {});
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errorOutput = (this.#errorOutput + text).slice(-ERROR_OUTPUT_CHARS);
    });
    if (child.stdout !== null) {
      createInterface({ input: child.stdout }).on('line', (line) => {
        const report = parse(line);
        if (report === undefined) return;
        onReport?.(report);
        this.#deliver(report, onReport === undefined);
      });
    }
    this.exited = new Promise((resolve) => {
      child.on('error', (error) => {
        this.#errorOutput += error.message;
        this.#end();
        resolve({ code: 127, signal: null });
      });
      child.on('close', (code, signal) => {
        this.#end();
        resolve({ code, signal });
      });
    });
  }

  get pid(): number {
    return this.#process.pid ?? -1;
  }

  get running(): boolean {
    return !this.#ended && this.#process.exitCode === null && this.#process.signalCode === null;
  }

  #deliver(report: unknown, keep: boolean): void {
    for (const waiter of this.#waiters) {
      if (!waiter.accepts(report)) continue;
      this.#waiters.delete(waiter);
      waiter.resolve(report);
      return;
    }
    if (keep) this.#reports.push(report);
  }

  #end(): void {
    this.#ended = true;
    for (const waiter of this.#waiters) waiter.reject(new Error(`The child has ended. ${this.#errorOutput}`));
    this.#waiters.clear();
  }

  send(command: unknown): void {
    this.#process.stdin?.write(`${JSON.stringify(command)}\n`);
  }

  async next<T>(accepts: (report: unknown) => report is T, timeoutMs = 20_000): Promise<T> {
    const index = this.#reports.findIndex(accepts);
    if (index >= 0) return this.#reports.splice(index, 1)[0] as T;
    if (this.#ended) throw new Error(`The child has ended. ${this.#errorOutput}`);
    return new Promise<T>((resolve, reject) => {
      const waiter: Waiter = {
        accepts,
        resolve: (report) => {
          clearTimeout(timer);
          resolve(report as T);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      const timer = setTimeout(() => {
        this.#waiters.delete(waiter);
        reject(new Error(`The child reported nothing of that kind in ${timeoutMs} ms. ${this.#errorOutput}`));
      }, timeoutMs);
      this.#waiters.add(waiter);
    });
  }

  kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<ChildExit> {
    if (this.running) this.#process.kill(signal);
    return this.exited;
  }

  errorOutput(): string {
    return this.#errorOutput;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

/** Undefined for a line that is cut off: its writer was killed in the middle. */
function parse(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    return undefined;
  }
}

/** For the child's side: one report, in the pipe before this returns. */
export function report(value: unknown): void {
  const bytes = Buffer.from(`${JSON.stringify(value)}\n`);
  for (let done = 0; done < bytes.length;) {
    try {
      done += writeSync(1, bytes, done);
    } catch (error) {
      // The pipe is full and was made non-blocking by the runtime; the test reads on.
      if ((error as { code?: string }).code !== 'EAGAIN') throw error;
    }
  }
}

/** For the child's side: calls back for each command. */
export function onCommand(listener: (command: unknown) => void): void {
  createInterface({ input: process.stdin }).on('line', (line) => {
    const command = parse(line);
    if (command !== undefined) listener(command);
  });
}
