import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, symlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createSimulator } from '../../modules/simulator/adapter.ts';
import { simulatorConfig } from '../../modules/simulator/config.ts';
import { freePort } from '../support/free-port.ts';
import type { Adapter } from '../../src/core/adapter.ts';
import { closeEnd, openEnd } from '../support/serial-line.ts';
import { waitFor } from '../support/wait.ts';
import { NEVER, record, type Recording } from '../unit/modules/modbus/harness.ts';

const SERVER = join(import.meta.dirname, '../../modules/simulator/server.ts');

it('the process of the site answers on a pseudo-terminal, which ends with the process however that ends', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'fieldpost-scale-'));
  const scalePath = join(directory, 'scale');
  const options = { address: '127.0.64.2', port: 5020, startWallMs: 0, scalePath };
  const site = spawn(process.execPath, [SERVER, JSON.stringify(options)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  try {
    await waitFor(() => existsSync(scalePath));
    const port = await openEnd(scalePath);
    let heard = '';
    port.on('data', (bytes: Buffer) => (heard += bytes.toString()));
    port.on('error', () => {});
    port.write('W\r\n');
    await waitFor(() => /^W -?\d+\.\d\d kg\r\n$/.test(heard));
    await closeEnd(port);
    site.kill('SIGKILL');
    await waitFor(() => !existsSync(scalePath), { what: 'the end of the pseudo-terminal' });
  } finally {
    if (site.exitCode === null && site.signalCode === null) {
      site.kill('SIGKILL');
      await once(site, 'exit');
    }
    await rm(directory, { recursive: true, force: true });
  }
});

it('the scale lives although the port of the Modbus server is taken, and the server comes when it is free', async () => {
  const address = '127.0.72.1';
  const directory = await mkdtemp(join(tmpdir(), 'fieldpost-scale-'));
  const port = await freePort(address);
  const other = createServer().listen(port, address);
  await once(other, 'listening');
  const recording = record({ dataDirectory: directory });
  const config = simulatorConfig.parse({ listen: { address, port }, scale: { path: 'scale' } });
  const adapter = createSimulator(config, recording.context);
  try {
    await adapter.start(NEVER);
    expect(adapter.health()).toMatchObject({ status: 'degraded', reason: expect.stringContaining('in use') as string });
    await waitFor(() => existsSync(join(directory, 'scale')));
    const end = await openEnd(join(directory, 'scale'));
    let heard = '';
    end.on('data', (bytes: Buffer) => (heard += bytes.toString()));
    end.write('W\r\n');
    await waitFor(() => /^W -?\d+\.\d\d kg\r\n$/.test(heard));
    other.close();
    await waitFor(() => adapter.health().status === 'running', { what: 'the port to be had' });
    // The same process served the scale all the while.
    heard = '';
    end.write('W\r\n');
    await waitFor(() => /^W -?\d+\.\d\d kg\r\n$/.test(heard));
    expect(recording.logs.filter(({ level }) => level === 'warn')).toHaveLength(1);
    await closeEnd(end);
  } finally {
    other.close();
    await adapter.stop(NEVER);
    await rm(directory, { recursive: true, force: true });
  }
});

describe('the terminal of the scale', () => {
  const address = '127.0.94.1';
  let directory: string;
  let path: string;
  let recording: Recording;
  let adapter: Adapter;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'fieldpost-scale-'));
    path = join(directory, 'scale');
    recording = record({ dataDirectory: directory });
    const config = simulatorConfig.parse({
      listen: { address, port: await freePort(address) },
      scale: { path: 'scale' },
    });
    adapter = createSimulator(config, recording.context);
  });

  afterEach(async () => {
    await adapter.stop(NEVER);
    vi.unstubAllEnvs();
    await rm(directory, { recursive: true, force: true });
  });

  async function ask(request: string): Promise<string> {
    const port = await openEnd(path);
    let heard = '';
    port.on('data', (bytes: Buffer) => (heard += bytes.toString()));
    port.write(`${request}\r\n`);
    await waitFor(() => heard.endsWith('\r\n'), { what: `the answer to ${request}` });
    await closeEnd(port);
    return heard.trim();
  }

  /** The process that made the terminal, by its command line. */
  async function maker(): Promise<{ pid: number; program: string } | undefined> {
    for (const name of await readdir('/proc')) {
      if (!/^\d+$/.test(name)) continue;
      const line = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '');
      const [program = '', ...args] = line.split('\0');
      if (args.some((arg) => arg === path || arg.startsWith(`PTY,link=${path},`)))
        return { pid: Number(name), program };
    }
    return undefined;
  }

  it('is made again when the program that made it dies, and the scale has forgotten nothing', async () => {
    await adapter.start(NEVER);
    await waitFor(() => existsSync(path));
    expect(await ask('L123.00')).toBe('OK');
    const first = await maker();
    expect(first?.program).toBe('socat');
    process.kill(first?.pid ?? 0, 'SIGKILL');
    await waitFor(() => adapter.health().status === 'degraded');
    expect(adapter.health().reason).toBe(
      `The simulated scale has no pseudo-terminal: socat ended with SIGKILL (${path}).`,
    );
    await waitFor(() => adapter.health().status === 'running', { what: 'the terminal to be there again' });
    expect(await ask('L?')).toBe('L 123.00 kg');
    expect((await maker())?.pid).not.toBe(first?.pid);
  });

  it('is made by python3 where there is no socat, and by nobody where neither is', async () => {
    const programs = await mkdtemp(join(directory, 'bin-'));
    vi.stubEnv('PATH', programs);
    await adapter.start(NEVER);
    await waitFor(() => adapter.health().status === 'degraded');
    expect(adapter.health().reason).toBe(
      'The simulated scale has no pseudo-terminal: neither socat nor python3 is installed; apt-get install socat.',
    );
    // It comes as soon as it can.
    await symlink('/usr/bin/python3', join(programs, 'python3'));
    await waitFor(() => adapter.health().status === 'running', { what: 'python3 to be found' });
    expect((await maker())?.program).toBe('python3');
    expect(await ask('W')).toMatch(/^W -?\d+\.\d\d kg$/);
    await adapter.stop(NEVER);
    await waitFor(() => !existsSync(path), { what: 'the link to go with the program' });
    expect(recording.logs.filter(({ level }) => level === 'warn')).toHaveLength(1);
  });
});
