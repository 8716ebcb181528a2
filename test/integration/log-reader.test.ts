// The whole daemon with a log that nobody reads: a pipe that is held open and full, and a terminal on hold.

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connectControl } from '../../src/admin/control-client.ts';
import { run } from '../support/command.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const MAIN = join(import.meta.dirname, '../../src/main.ts');
/** Of Linux (pipe(7)). */
const PIPE_BYTES = 65_536;

let directory: TempDir;
let daemon: ChildProcess | undefined;

beforeEach(() => {
  directory = createTempDir('log-reader');
});

afterEach(async () => {
  daemon?.kill('SIGKILL');
  if (daemon !== undefined && daemon.exitCode === null && daemon.signalCode === null) await once(daemon, 'exit');
  directory.remove();
});

/** Fills the log: each edit has a fault that takes a line. */
async function fill(running: ChildProcess, config: string, socket: string, bytes: number): Promise<void> {
  const isReady = async (): Promise<boolean> =>
    connectControl(socket)
      .then((control) => control.health())
      .then(
        ({ ready }) => ready,
        () => false,
      );
  await waitFor(isReady, { timeoutMs: 30_000, what: 'the gateway' });
  const control = await connectControl(socket);
  for (let edit = 0; edit < bytes / 4096; edit += 1) {
    const key = `${edit}${'x'.repeat(4096)}`;
    writeFileSync(config, `gateway: { ${key}: 1 }\n`);
    running.kill('SIGHUP');
    await waitFor(async () => JSON.stringify(await control.health()).includes(`${edit}xxx`), {
      what: 'a look at the edit',
    });
  }
}

describe('a log that nobody reads', () => {
  let config: string;
  let command: string[];
  let socket: string;
  beforeEach(() => {
    config = directory.file('fieldpost.yaml');
    const data = directory.file('data');
    writeFileSync(config, 'web: { enabled: false }\n');
    command = [MAIN, 'run', '--config', config, '--data', data];
    socket = join(data, 'control.sock');
  });

  it('neither holds the gateway up nor keeps it from ending', async () => {
    const pipe = directory.file('pipe');
    await run('mkfifo', [pipe]);
    // Open for reading too, so that it is full and not broken.
    const descriptor = openSync(pipe, 'r+');
    const running = spawn(process.execPath, command, { stdio: ['ignore', descriptor, 'ignore'] });
    daemon = running;
    await fill(running, config, socket, 2 * PIPE_BYTES);
    running.kill('SIGTERM');
    const [code] = (await once(running, 'exit')) as [number | null];
    expect(code).toBe(0);
    const left = Buffer.alloc(2 * PIPE_BYTES);
    expect(readSync(descriptor, left)).toBeGreaterThan(PIPE_BYTES / 2);
    closeSync(descriptor);
  });

  it('does neither on a terminal', async () => {
    const link = directory.file('tty');
    // Nobody reads the other end.
    const holder = spawn('socat', [`pty,rawer,link=${link}`, `exec:sleep 1000`], { stdio: 'ignore' });
    await waitFor(() => existsSync(link), { what: 'the terminal' });
    holder.kill('SIGSTOP');
    const terminal = openSync(link, 'r+');
    const running = spawn(process.execPath, command, { stdio: ['ignore', terminal, 'ignore'] });
    daemon = running;
    await fill(running, config, socket, 2 * PIPE_BYTES);
    running.kill('SIGTERM');
    const [code] = (await once(running, 'exit')) as [number | null];
    expect(code).toBe(0);
    closeSync(terminal);
    holder.kill('SIGKILL');
    await once(holder, 'exit');
  });
});
