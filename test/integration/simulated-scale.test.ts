import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { createSimulator } from '../../modules/simulator/adapter.ts';
import { simulatorConfig } from '../../modules/simulator/config.ts';
import { freePort } from '../support/free-port.ts';
import { closeEnd, openEnd } from '../support/serial-line.ts';
import { waitFor } from '../support/wait.ts';
import { NEVER, record } from '../unit/modules/modbus/harness.ts';

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
