// A scan asked for in the process and over the control socket, of a module that a test leads.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createControlClient } from '../../../../src/admin/control-client.ts';
import { createControlServer, type ControlServer } from '../../../../src/admin/control-server.ts';
import { createScanRunner } from '../../../../src/admin/scan.ts';
import type { AdminApi } from '../../../../src/core/admin.ts';
import { GatewayError } from '../../../../src/core/errors.ts';
import type { ScanContext, ScanEvent } from '../../../../src/core/scan.ts';
import { silentLogger } from '../../../../src/observe/logger.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { defineAdapter, defineScan } from '../../../../src/sdk/define.ts';
import { createAdminHarness, type AdminHarness } from '../../../support/admin.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';
import { waitFor } from '../../../support/wait.ts';

const NEVER = new AbortController().signal;
const clock = new SystemClock();

const options = z.strictObject({ place: z.string().min(1), count: z.coerce.number<string>().int().default(2) });
type Chosen = z.output<typeof options>;
let lead: (context: ScanContext, chosen: Chosen) => Promise<void>;

const never = (): Promise<never> => Promise.reject(new Error('not loaded'));

const modules = [
  defineAdapter({
    type: 'led',
    config: z.strictObject({}),
    load: never,
    scan: defineScan({
      options,
      load: () => Promise.resolve((chosen: Chosen, context: ScanContext) => lead(context, chosen)),
    }),
  }),
  defineAdapter({ type: 'blind', config: z.strictObject({}), load: never }),
];

let directory: TempDir;
let harness: AdminHarness;
let server: ControlServer;
let remote: AdminApi['scan'];
let local: AdminApi['scan'];

beforeEach(async () => {
  directory = createTempDir('scan');
  local = createScanRunner({ modules, running: () => [], clock, log: silentLogger, profileDirectory: '/nowhere' });
  harness = createAdminHarness({ scan: local });
  const path = directory.file('control.sock');
  server = createControlServer({ admin: harness.admin, path, log: silentLogger });
  await server.start();
  remote = (request, watch) => createControlClient(path).scan(request, watch);
  lead = async ({ report }, { place, count }) => {
    for (let index = 0; index < count; index += 1) {
      report({ kind: 'found', finding: { place: `${place} ${index}`, facts: { model: 'é\n"' } } });
    }
  };
});

afterEach(async () => {
  await server.stop();
  await harness[Symbol.asyncDispose]();
  directory.remove();
});

describe.each([
  ['in the process', () => local],
  ['over the control socket', () => remote],
])('a scan %s', (_where, scanOf) => {
  it('tells what it finds as it was told, and then ends', async () => {
    const events: ScanEvent[] = [];
    await scanOf()(
      { type: 'led', options: { place: 'line' } },
      { signal: NEVER, report: (event) => events.push(event) },
    );
    expect(events).toEqual([
      { kind: 'found', finding: { place: 'line 0', facts: { model: 'é\n"' } } },
      { kind: 'found', finding: { place: 'line 1', facts: { model: 'é\n"' } } },
    ]);
  });

  it.each([
    [{ type: 'led', options: {} }, 'GW_USAGE', 'place: '],
    [{ type: 'led', options: { place: 'x', count: 'many' } }, 'GW_USAGE', 'count: '],
    [{ type: 'led', options: { place: 'x', speed: 1 } }, 'GW_USAGE', 'speed: not known here; allowed: place, count.'],
    [{ type: 'blind', options: {} }, 'GW_NOT_FOUND', '"blind" cannot be scanned; allowed: led.'],
  ])('refuses %j', async (request, code, text) => {
    const refused = scanOf()(request, { signal: NEVER, report: () => {} });
    await expect(refused).rejects.toMatchObject({ code, message: expect.stringContaining(text) });
  });

  it('fails as the module fails, and leaves the next one free', async () => {
    lead = () => Promise.reject(new GatewayError('GW_SERIAL_BUSY', '/dev/ttyUSB0 is held by another program.'));
    const request = { type: 'led', options: { place: 'x' } };
    const watch = { signal: NEVER, report: () => {} };
    await expect(scanOf()(request, watch)).rejects.toMatchObject({ code: 'GW_SERIAL_BUSY' });
    lead = () => Promise.resolve();
    await expect(scanOf()(request, watch)).resolves.toBeUndefined();
  });

  it('ends when it is told to, also where it runs, and only one runs at a time', async () => {
    let ended = false;
    let begun = false;
    lead = async ({ signal }) => {
      begun = true;
      await clock.sleep(60_000, signal).finally(() => {
        ended = true;
      });
    };
    const stop = new AbortController();
    const request = { type: 'led', options: { place: 'x' } };
    const first = scanOf()(request, { signal: stop.signal, report: () => {} });
    first.catch(() => {});
    await waitFor(() => begun);
    await expect(scanOf()(request, { signal: NEVER, report: () => {} })).rejects.toMatchObject({
      code: 'GW_THROTTLED',
    });
    stop.abort();
    await expect(first).rejects.toMatchObject({ code: 'GW_ABORTED' });
    await waitFor(() => ended);
  });
});

it('a scan over the control socket ends with the gateway', async () => {
  let begun = false;
  lead = ({ signal }) => {
    begun = true;
    return clock.sleep(60_000, signal);
  };
  const scan = remote({ type: 'led', options: { place: 'x' } }, { signal: NEVER, report: () => {} });
  scan.catch(() => {});
  await waitFor(() => begun);
  await server.stop();
  await expect(scan).rejects.toMatchObject({ code: 'GW_ABORTED' });
});
