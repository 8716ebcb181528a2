// The whole daemon under a stand-in for systemd: it reports readiness, life and its stop, in that order.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connectControl } from '../../src/admin/control-client.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const MAIN = join(import.meta.dirname, '../../src/main.ts');
const RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('listening', flush=True)
while True:
    print(s.recv(4096).decode().replace('\\n', '|'), flush=True)
`;

let directory: TempDir;
let receiver: ChildProcess;
let daemon: ChildProcess | undefined;
let received = '';

beforeEach(async () => {
  directory = createTempDir('systemd');
  receiver = spawn('/usr/bin/python3', ['-c', RECEIVER, directory.file('notify')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  received = '';
  receiver.stdout?.setEncoding('utf8').on('data', (text: string) => (received += text));
  await waitFor(() => received.includes('listening'));
});

afterEach(async () => {
  daemon?.kill('SIGKILL');
  receiver.kill();
  if (daemon !== undefined && daemon.exitCode === null && daemon.signalCode === null) await once(daemon, 'exit');
  directory.remove();
});

describe('under systemd', () => {
  it('is ready when it takes messages, alive while it makes progress, and says that it stops', async () => {
    const config = directory.file('fieldpost.yaml');
    writeFileSync(config, 'web: { enabled: false }\n');
    const data = directory.file('data');
    // The first program that is asked for the state of the clock.
    const inherited = directory.file('inherited');
    const programs = directory.directory('programs');
    writeFileSync(
      join(programs, 'chronyc'),
      `#!/bin/sh\nenv > ${inherited}.new && mv ${inherited}.new ${inherited}\n`,
      {
        mode: 0o755,
      },
    );
    const environment = {
      ...process.env,
      PATH: `${programs}:${process.env['PATH'] ?? ''}`,
      NOTIFY_SOCKET: directory.file('notify'),
      WATCHDOG_USEC: '1000000',
      RUNTIME_DIRECTORY: directory.directory('run'),
    };
    daemon = spawn(process.execPath, [MAIN, 'run', '--config', config, '--data', data], {
      env: environment,
      stdio: 'ignore',
    });
    await waitFor(() => received.includes('READY=1'), { timeoutMs: 30_000 });
    const control = await connectControl(directory.file('run', 'control.sock'));
    expect(await control.health()).toMatchObject({ live: true, ready: true });
    await waitFor(() => (received.match(/WATCHDOG=1/g)?.length ?? 0) >= 3);
    expect(received).toMatch(/STATUS=\d+ messages? waits?/);
    // Where systemd itself says that the clock is right, no program is asked.
    if (!existsSync('/run/systemd/timesync/synchronized')) {
      await waitFor(() => existsSync(inherited));
      expect(readFileSync(inherited, 'utf8')).not.toContain('NOTIFY_SOCKET');
    }
    daemon.kill('SIGTERM');
    const [code] = (await once(daemon, 'exit')) as [number | null];
    expect(code).toBe(0);
    await waitFor(() => received.includes('STOPPING=1'));
    expect(received.indexOf('READY=1')).toBeLessThan(received.indexOf('STOPPING=1'));
    expect(received.slice(received.indexOf('STOPPING=1'))).not.toContain('WATCHDOG=1');
  });
});
