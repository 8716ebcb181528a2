import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'vitest';
import { closeEnd, openEnd } from '../support/serial-line.ts';
import { waitFor } from '../support/wait.ts';

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
    await waitFor(() => /^W \d+\.\d\d kg\r\n$/.test(heard));
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
