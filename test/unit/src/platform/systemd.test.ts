// sd_notify against a real datagram socket, read by a program that nobody here wrote the other end of.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Logger } from '../../../../src/core/log.ts';
import { createServiceManager } from '../../../../src/platform/systemd.ts';

const RECEIVER = `
import socket, sys
address = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind('\\0' + address[1:] if address.startswith('@') else address)
print('listening', flush=True)
while True:
    print(s.recv(4096).decode().replace('\\n', '|'), flush=True)
`;

let directory: string;
let receiver: ChildProcess | undefined;
const received: string[] = [];
const warnings: string[] = [];
const log: Logger = {
  debug() {},
  info() {},
  warn: (_fields, sentence) => warnings.push(sentence),
  error() {},
  child: () => log,
};

async function receive(address: string): Promise<void> {
  receiver = spawn('/usr/bin/python3', ['-c', RECEIVER, address], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = receiver.stdout!;
  await once(lines, 'data');
  lines.on('data', (chunk: Buffer) => received.push(...chunk.toString().split('\n').filter(Boolean)));
}

/** All fields received so far; the barrier of systemd-notify stands in datagrams of its own. */
async function fields(count: number): Promise<string[]> {
  await expect.poll(() => received.filter((line) => line !== 'BARRIER=1').length).toBeGreaterThanOrEqual(count);
  return received.filter((line) => line !== 'BARRIER=1').flatMap((line) => line.split('|').filter(Boolean));
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'fieldpost-systemd-'));
  received.length = 0;
  warnings.length = 0;
});

afterEach(() => {
  receiver?.kill();
  receiver = undefined;
  rmSync(directory, { recursive: true });
});

describe('service manager', () => {
  it.each([
    ['a path', () => join(directory, 'notify')],
    ['an abstract address', () => `@fieldpost-test-${process.pid}`],
  ])('tells readiness, life and the stop to %s', async (_name, address) => {
    const socket = address();
    await receive(socket);
    const environment = { ...process.env, NOTIFY_SOCKET: socket, WATCHDOG_USEC: '20000000' };
    const manager = createServiceManager({ log, environment });
    expect(manager.watchdogMs).toBe(20_000);
    // What is started from now on does not speak to systemd.
    expect(environment).not.toHaveProperty('NOTIFY_SOCKET');
    manager.ready('Two adapters run.');
    await manager.flush();
    manager.alive('12 messages wait.\nREADY=0');
    await manager.flush();
    manager.extendTimeout(1500.5);
    manager.stopping('Stopping.');
    await manager.flush();
    expect(await fields(3)).toEqual(
      expect.arrayContaining([
        'READY=1',
        'STATUS=Two adapters run.',
        'WATCHDOG=1',
        'STATUS=12 messages wait. READY=0',
        'EXTEND_TIMEOUT_USEC=1500500',
        'STOPPING=1',
        'STATUS=Stopping.',
      ]),
    );
    expect(received.join('|').split('|')).not.toContain('READY=0');
    expect(warnings).toEqual([]);
  });

  it('merges what waits, so that a slow systemd gets the newest', async () => {
    const socket = join(directory, 'notify');
    await receive(socket);
    const manager = createServiceManager({ log, environment: { ...process.env, NOTIFY_SOCKET: socket } });
    for (let count = 0; count < 50; count += 1) manager.status(`Line ${count}.`);
    await manager.flush();
    const statuses = await fields(2);
    expect(statuses).toEqual(['STATUS=Line 0.', 'STATUS=Line 49.']);
  });

  it('says once that the program is missing and goes on', async () => {
    const environment = { NOTIFY_SOCKET: join(directory, 'notify'), WATCHDOG_USEC: '1000000' };
    const manager = createServiceManager({ log, environment, program: join(directory, 'absent') });
    manager.ready('x');
    await manager.flush();
    manager.alive('x');
    await manager.flush();
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('systemd-notify is missing');
  });

  it('says once that nobody receives', async () => {
    const environment = { ...process.env, NOTIFY_SOCKET: join(directory, 'nobody') };
    const manager = createServiceManager({ log, environment });
    manager.ready('x');
    await manager.flush();
    manager.alive('x');
    await manager.flush();
    expect(warnings).toHaveLength(1);
  });

  it('does nothing outside systemd, nor for the watchdog of another process', async () => {
    const without = createServiceManager({ log, environment: { WATCHDOG_USEC: '1000000' }, program: '/nonexistent' });
    without.ready('x');
    await without.flush();
    expect(without.watchdogMs).toBeUndefined();
    const environment = { NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '1000000', WATCHDOG_PID: '1' };
    expect(createServiceManager({ log, environment }).watchdogMs).toBeUndefined();
    expect(warnings).toEqual([]);
  });
});
