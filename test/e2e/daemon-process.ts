// The built daemon as a child process, started the way people start it, through the launcher.

import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { GatewayStatus } from '../../src/core/admin.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const BUILT = join(ROOT, 'dist', 'main.mjs');

export interface DaemonProcess extends AsyncDisposable {
  readonly pid: number;
  readonly dataDirectory: string;
  readonly configPath: string;
  /** Standard output and error so far. */
  log(): string;
  /** Resolves with the exit code, or the signal that ended it. */
  readonly exited: Promise<number | NodeJS.Signals>;
  status(): Promise<GatewayStatus>;
  get(path: string): Promise<Response>;
  kill(signal: NodeJS.Signals): Promise<number | NodeJS.Signals>;
}

export interface StartOptions {
  /** Text of the configuration; undefined: none is there, the starter is written. */
  readonly config?: string;
  /** Where the web server listens by that configuration. */
  readonly web: string;
  /** Kept over restarts by the test. */
  readonly directory: TempDir;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs the built command line to its end. */
export function runFieldpost(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  if (!existsSync(BUILT)) throw new Error('Run `npm run build` first.');
  const child = spawn(process.execPath, [BUILT, ...args], {
    env: { ...process.env, ...env },
    stdio: 'pipe',
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  return new Promise<{ code: number | null; out: string; err: string }>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, out, err }));
  });
}

/** Spawns it; does not wait until it answers. */
export function spawnDaemon(options: StartOptions): DaemonProcess {
  if (!existsSync(BUILT)) throw new Error('Run `npm run build` first.');
  const dataDirectory = options.directory.file('data');
  const configPath = options.directory.file('fieldpost.yaml');
  if (options.config !== undefined) writeFileSync(configPath, options.config);
  const args = ['run', '--data', dataDirectory, '--config', configPath, ...(options.args ?? [])];
  const child: ChildProcess = spawn(process.execPath, [BUILT, ...args], {
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  child.stdout?.on('data', (chunk: Buffer) => (log += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (log += chunk.toString()));
  const exited = new Promise<number | NodeJS.Signals>((resolve) => {
    child.on('close', (code, signal) => resolve(code ?? signal ?? 'SIGKILL'));
  });
  const get = (path: string): Promise<Response> => fetch(`http://${options.web}${path}`);
  const kill = async (signal: NodeJS.Signals): Promise<number | NodeJS.Signals> => {
    child.kill(signal);
    return exited;
  };
  return {
    pid: child.pid ?? 0,
    dataDirectory,
    configPath,
    log: () => log,
    exited,
    get,
    status: async () => (await (await get('/api/status')).json()) as GatewayStatus,
    kill,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null && child.signalCode === null) await kill('SIGKILL');
    },
  };
}

/** Starts it and waits until it is ready. */
export async function startDaemon(options: StartOptions): Promise<DaemonProcess> {
  const daemon = spawnDaemon(options);
  let ended: number | NodeJS.Signals | undefined;
  daemon.exited.then((result) => (ended = result)).catch(() => {});
  await waitFor(
    async () => {
      if (ended !== undefined) throw new Error(`The daemon ended with ${ended}:\n${daemon.log()}`);
      const health = await daemon.get('/health').then(
        (response) => response.json() as Promise<{ ready: boolean }>,
        () => undefined,
      );
      return health?.ready === true;
    },
    { timeoutMs: 30_000, what: 'the daemon to be ready' },
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${daemon.log()}`);
  });
  return daemon;
}

export function temporaryDirectory(): TempDir {
  return createTempDir('e2e');
}
