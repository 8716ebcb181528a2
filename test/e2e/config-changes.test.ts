// Edits of the configuration that meet each other, or the end of the daemon.

import { readFileSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { freePort } from '../support/free-port.ts';
import type { TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';
import { type DaemonProcess, startDaemon, temporaryDirectory } from './daemon-process.ts';

const ADDRESS = '127.0.92.9';

let directory: TempDir;
let port: number;
let daemon: DaemonProcess;

function config(gateway: string, device: string, webPort: number): string {
  return `
gateway: { id: ${gateway} }
adapters:
  sim:
    type: modbus
    simulate: true
    transport: { kind: tcp, host: 127.0.0.1 }
    devices:
      ${device}: { poll_interval_ms: 200, points: { a: { register: 'holding:0' } } }
upstream: { type: mqtt, url: 'mqtt://${ADDRESS}:9' }
web: { address: ${ADDRESS}, port: ${webPort} }
outbox: { min_free_bytes: 0 }
`;
}

function edit(text: string): void {
  writeFileSync(daemon.configPath, text);
  process.kill(daemon.pid, 'SIGHUP');
}

function isListening(at: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: ADDRESS, port: at });
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

beforeEach(async () => {
  directory = temporaryDirectory();
  port = await freePort(ADDRESS);
  daemon = await startDaemon({ config: config('one', 'd1', port), web: `${ADDRESS}:${port}`, directory });
});

afterEach(async () => {
  await daemon[Symbol.asyncDispose]();
  directory.remove();
});

it.each([
  [0, 'all', 'two'],
  [20, 'all', 'two'],
  [60, 'all', 'two'],
  [150, 'all', 'two'],
  [400, 'all', 'two'],
  [0, 'an adapter', 'one'],
  [60, 'an adapter', 'one'],
])('ends when it is told to %i ms after an edit that builds %s anew', async (afterMs, _, gateway) => {
  const otherPort = await freePort(ADDRESS);
  const edited = config(gateway, 'd2', otherPort);
  edit(edited);
  const startMs = performance.now();
  await waitFor(() => performance.now() - startMs >= afterMs);
  expect(await daemon.kill('SIGTERM')).toBe(0);
  expect(await Promise.all([port, otherPort].map(isListening))).toEqual([false, false]);
  // Neither lost nor taken back.
  expect(readFileSync(daemon.configPath, 'utf8')).toBe(edited);
  daemon = await startDaemon({ web: `${ADDRESS}:${otherPort}`, directory });
  expect((await daemon.status()).gatewayId).toBe(gateway);
  expect(await (await daemon.get('/api/devices')).text()).toContain('"d2"');
});

it('applies edits in quick succession one after the other, and keeps the last', async () => {
  const ids = ['two', 'three', 'four', 'five', 'six'];
  for (const [index, id] of ids.entries()) {
    edit(config(id, `d${index}`, port));
    const startMs = performance.now();
    await waitFor(() => performance.now() - startMs >= 40 * index);
  }
  const last = config('six', 'd9', port);
  edit(last);
  await waitFor(async () => {
    const response = await daemon.get('/api/devices').catch(() => undefined);
    return response?.ok === true && (await response.text()).includes('"d9"');
  });
  expect((await daemon.status()).gatewayId).toBe('six');
  expect(readFileSync(daemon.configPath, 'utf8')).toBe(last);
  expect(daemon.log()).not.toContain('config_not_applied');
});
