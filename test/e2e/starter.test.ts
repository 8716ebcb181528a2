// A first start as a newcomer has it: no configuration, the ports that everybody uses (in a network of its own), and nothing known
// but what is printed.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { run } from '../support/command.ts';
import type { TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';
import { runFieldpost, temporaryDirectory } from './daemon-process.ts';

const ROOT = join(import.meta.dirname, '..', '..');
/** The device of README.md. */
const DEVICE = `
const { Client, Message } = require("azure-iot-device");
const client = Client.fromConnectionString(process.env.DEVICE, require("azure-iot-device-mqtt").Mqtt);
client.open().then(() => client.sendEvent(new Message(JSON.stringify({ flow: 14.5 })))).then(() => client.close());
`;

let directory: TempDir;
let data: string;
let daemon: ChildProcess | undefined;
let printed: string;

beforeEach(() => {
  directory = temporaryDirectory();
  data = directory.file('data');
  printed = '';
});

afterEach(async () => {
  if (daemon !== undefined && daemon.exitCode === null && daemon.signalCode === null) {
    daemon.kill('SIGKILL');
    await once(daemon, 'close');
  }
  directory.remove();
});

/** @param limits what becomes the daemon, and takes rights away before. */
function start(limits: readonly string[] = []): void {
  const program = [process.execPath, join(ROOT, 'dist', 'main.mjs'), 'run', '--data', data];
  const args = ['--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', ...limits, ...program];
  const { JOURNAL_STREAM: _, ...env } = process.env;
  daemon = spawn('unshare', args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  for (const stream of [daemon.stdout, daemon.stderr]) {
    stream?.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  }
}

async function hub(...args: readonly string[]): Promise<string> {
  const { code, out, err } = await runFieldpost(['hub', ...args, '--data', data]);
  if (code !== 0) throw new Error(`fieldpost hub ${args.join(' ')}: ${err}`);
  return out.trim();
}

/** What `hub monitor-events` shows, as long as `work` takes. */
async function watching(work: (seen: () => string) => Promise<void>): Promise<void> {
  const monitor = spawn(process.execPath, [join(ROOT, 'dist', 'main.mjs'), 'hub', 'monitor-events', '--data', data]);
  let seen = '';
  monitor.stdout.on('data', (chunk: Buffer) => (seen += chunk.toString()));
  try {
    await work(() => seen);
  } finally {
    const ended = once(monitor, 'close');
    monitor.kill('SIGKILL');
    await ended;
  }
}

async function untilGreeted(): Promise<void> {
  await waitFor(() => printed.includes('stop            Ctrl+C'), { timeoutMs: 60_000, what: 'the greeting' });
}

const SITE = ['meter-1', 'tank-1', 'scale-1', 'greenhouse-1'];

async function seesTheSite(seen: () => string): Promise<void> {
  await waitFor(() => SITE.every((device) => seen().includes(`  ${device}  {`)), {
    timeoutMs: 60_000,
    what: 'events of the whole site',
  });
}

it('ends in the local hub: live values of the site, and an SDK that takes what is printed', async () => {
  start();
  await untilGreeted();
  expect(printed).toMatch(/watch +npx fieldpost hub monitor-events/);
  expect(printed).toMatch(/connect +npx fieldpost hub connection-string/);
  const [, authority = ''] = /trust +(\S+)/.exec(printed) ?? [];
  await watching(async (seen) => {
    await seesTheSite(seen);
    await hub('identity', 'create', 'pump-1');
    const env = { DEVICE: await hub('connection-string', '--device', 'pump-1'), NODE_EXTRA_CA_CERTS: authority };
    const there = ['nsenter', `--net=/proc/${daemon?.pid}/ns/net`];
    const own = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    await run('env', ['-C', ROOT, ...own, ...there, process.execPath, '-e', DEVICE]);
    await waitFor(() => seen().includes('  pump-1  {"flow":14.5}'), { what: 'the event of the SDK' });
  });
});

it('goes on without the right to open port 443, and says so', async () => {
  start(['setpriv', '--bounding-set=-net_bind_service', '--inh-caps=-net_bind_service']);
  await untilGreeted();
  const amiss = 'The local hub may not listen on 127.0.0.1:443: ports below 1024 need a right.';
  await waitFor(() => printed.includes(amiss), { timeoutMs: 60_000, what: 'what is amiss' });
  await watching(seesTheSite);
});
