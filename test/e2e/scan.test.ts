// `fieldpost scan` of the simulated bus with the built command: through the gateway that polls it, and alone.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { freePort } from '../support/free-port.ts';
import type { TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';
import { runFieldpost, startDaemon, temporaryDirectory } from './daemon-process.ts';

const ADDRESS = '127.0.67.1';

describe('fieldpost scan', () => {
  let directory: TempDir;

  beforeEach(() => {
    directory = temporaryDirectory();
  });

  afterEach(() => directory.remove());

  it('finds the simulated bus while the gateway goes on polling it', async () => {
    const [bus, web, local] = [await freePort(ADDRESS), await freePort(ADDRESS), await freePort()];
    await using daemon = await startDaemon({
      directory,
      web: `${ADDRESS}:${web}`,
      config: `
adapters:
  site: { type: simulator, listen: { address: ${ADDRESS}, port: ${bus} } }
  bus-1:
    type: modbus
    transport: { kind: tcp, host: ${ADDRESS}, port: ${bus} }
    devices: { meter: { poll_interval_ms: 100, points: { voltage: { register: 'input:0', type: float32 } } } }
upstream: { type: local, listen: { port: ${local} } }
web: { address: ${ADDRESS}, port: ${web} }
outbox: { min_free_bytes: 0 }
`,
    });
    const good = async (): Promise<boolean> =>
      (await daemon.status()).adapters.some(({ devices }) => devices.good === 1);
    await waitFor(good);
    const target = ['scan', 'modbus', '--host', ADDRESS, '--port', String(bus)];
    const range = ['--unit-ids', '1-3', '--addresses', '0-40', '--timeout-ms', '300'];
    const { code, out, err } = await runFieldpost([...target, ...range, '--data', daemon.dataDirectory]);
    expect(code).toBe(0);
    expect(err).toContain('is in use by this gateway: searched between its polls');
    expect(err).toContain('Done: 2 found.');
    expect(out).toContain(`tcp://${ADDRESS}:${bus}, unit 1\n`);
    expect(out).toContain('readable input: 0-11\n');
    expect(out).toContain(`tcp://${ADDRESS}:${bus}, unit 2\n`);
    expect(await good()).toBe(true);

    // Without a gateway on that data directory the command does it itself.
    const alone = await runFieldpost([...target, ...range, '--data', directory.file('elsewhere')]);
    expect(alone.err).not.toContain('in use by this gateway');
    expect(alone.out).toContain('readable input: 0-11\n');
  });

  it.each([
    ['nothing to search', ['scan']],
    ['options that contradict', ['scan', 'modbus', '--host', 'a', '--serial', '/dev/a']],
    ['an unknown option', ['scan', 'modbus', '--fast']],
  ])('exits 2 for %s', async (_what, args) => {
    expect((await runFieldpost([...args, '--data', directory.file('elsewhere')])).code).toBe(2);
  });
});
