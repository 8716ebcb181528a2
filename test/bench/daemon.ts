// The built daemon as the subject of a bench.

import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parsePrometheus, type PrometheusText } from '../support/prometheus.ts';
import { waitFor } from '../support/wait.ts';

export interface BenchDaemon extends AsyncDisposable {
  readonly pid: number;
  /** `performance.now()` just before it was spawned. */
  readonly spawnedMs: number;
  /** Standard output and error, the end of it. */
  log(): string;
  get(path: string): Promise<Response>;
  metrics(): Promise<PrometheusText>;
  ready(): Promise<void>;
  /** SIGTERM, then waits for its end. */
  stop(): Promise<void>;
}

export interface BenchDaemonOptions {
  /** Path of the launcher. */
  readonly daemon: string;
  /** Holds configuration and data; kept between two starts. */
  readonly directory: string;
  readonly config: string;
  /** Where the configuration puts the web server, as `ADDRESS:PORT`. */
  readonly web: string;
}

/** What the launcher (src/fieldpost.sh) gives the runtime: what runs in a bench's own process is to have the same. */
export const RUNTIME_FLAGS: readonly string[] = [
  '--v8-pool-size=2',
  '--bytecode-old-age=1',
  '--flush-baseline-code',
  '--expose-gc',
  '--no-maglev',
  '--max-semi-space-size=8',
  '--heap-growing-percent=50',
  '--no-incremental-marking-task',
  '--no-allocation-site-pretenuring',
];
export const RUNTIME_ENVIRONMENT = { MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '131072' } as const;

const LOG_CHARS = 4 * 1024;

export function spawnDaemon(options: BenchDaemonOptions): BenchDaemon {
  const { daemon, directory, config, web } = options;
  mkdirSync(directory, { recursive: true });
  const configPath = join(directory, 'fieldpost.yaml');
  writeFileSync(configPath, config);
  const spawnedMs = performance.now();
  const child = spawn(daemon, ['run', '--data', join(directory, 'data'), '--config', configPath], {
    // As systemd starts it: no terminal, no options of the one who runs the bench.
    env: { PATH: process.env['PATH'] },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (log = (log + text).slice(-LOG_CHARS)));
  }
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const get = (path: string): Promise<Response> => fetch(`http://${web}${path}`);
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    await ended;
  };
  return {
    pid: child.pid ?? -1,
    spawnedMs,
    log: () => log,
    get,
    metrics: async () => parsePrometheus(await (await get('/metrics')).text()),
    ready: async () => {
      await waitFor(
        async () => {
          if (child.exitCode !== null) throw new Error(`The daemon ended with ${child.exitCode}:\n${log}`);
          const health = await get('/health').catch(() => undefined);
          return ((await health?.json()) as { ready?: boolean } | undefined)?.ready === true;
        },
        { timeoutMs: 30_000, everyMs: 50, what: 'the daemon to be ready' },
      );
    },
    stop: () => end('SIGTERM'),
    [Symbol.asyncDispose]: () => end('SIGKILL'),
  };
}

/** Section `adapters:` with one MQTT listener that takes whatever comes from loopback, on `leaf/{device_id}/telemetry`. */
export function mqttFieldYaml(address: string, port: number): string {
  return `adapters:
  field:
    type: mqtt
    listen: { address: ${address}, port: ${port} }
    anonymous: loopback
    max_messages_per_sec: 0
    max_connects_per_sec: 0
    topics: [{ topic: 'leaf/{device_id}/telemetry' }]`;
}
