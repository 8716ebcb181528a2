// A serial line between two pseudo-terminals, made by socat, and servers on its far end.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SerialPort } from 'serialport';
import { waitFor } from './wait.ts';

export interface Line extends AsyncDisposable {
  /** What the gateway opens. */
  readonly near: string;
  /** What the device has. */
  readonly far: string;
  /** Pulls the cable: both ends vanish. */
  unplug(): Promise<void>;
  /** Puts it back under the same names. */
  plug(): Promise<void>;
}

export async function serialLine(): Promise<Line> {
  const directory = await mkdtemp(join(tmpdir(), 'fieldpost-pty-'));
  const near = join(directory, 'near');
  const far = join(directory, 'far');
  let socat: ChildProcess | undefined;

  async function plug(): Promise<void> {
    const terminal = (link: string): string => `pty,raw,echo=0,link=${link}`;
    socat = spawn('socat', [terminal(near), terminal(far)], { stdio: 'ignore' });
    await waitFor(() => existsSync(near) && existsSync(far), { what: 'socat' });
  }

  async function unplug(): Promise<void> {
    const child = socat;
    if (child === undefined) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await ended;
    socat = undefined;
    // A cable that is pulled leaves no name behind; a killed socat may.
    await Promise.all([rm(near, { force: true }), rm(far, { force: true })]);
  }

  await plug();
  return {
    near,
    far,
    plug,
    unplug,
    async [Symbol.asyncDispose]() {
      await unplug();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Opens an end of a line as another program would: with serialport's lock. */
export async function openEnd(path: string): Promise<SerialPort> {
  const port = new SerialPort({ path, baudRate: 115_200, autoOpen: false });
  await new Promise<void>((resolve, reject) => {
    port.open((error) => (error === null ? resolve() : reject(error)));
  });
  return port;
}

export function closeEnd(port: SerialPort): Promise<void> {
  return new Promise((resolve) => {
    if (!port.isOpen) return resolve();
    port.close(() => resolve());
  });
}
