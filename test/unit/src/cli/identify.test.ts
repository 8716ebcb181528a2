import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createControlServer, type ControlServer } from '../../../../src/admin/control-server.ts';
import { identifyCommand } from '../../../../src/cli/identify.ts';
import { silentLogger } from '../../../../src/observe/logger.ts';
import { createAdminHarness, type AdminHarness } from '../../../support/admin.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';

let directory: TempDir;
let harness: AdminHarness;
let server: ControlServer | undefined;

beforeEach(() => {
  directory = createTempDir('identify');
  harness = createAdminHarness();
});

afterEach(async () => {
  await server?.stop();
  await harness[Symbol.asyncDispose]();
  directory.remove();
});

/** The command against a device that gives these objects. */
async function identify(found: Readonly<Record<string, string>>) {
  const admin = { ...harness.admin, identify: () => Promise.resolve(found) };
  server = createControlServer({ admin, path: directory.file('control.sock'), log: silentLogger });
  await server.start();
  let out = '';
  let err = '';
  const code = await identifyCommand.run(['meter-1', '--data', directory.path], {
    modules: [],
    heads: [],
    web: { load: () => Promise.reject(new Error('No web server here.')) },
    version: '0.0.0',
    env: {},
    out: (text) => {
      out += text;
    },
    flushed: () => Promise.resolve(),
    err: (text) => {
      err += text;
    },
  });
  return { code, out, err };
}

describe('identify', () => {
  it('prints what the device names, a line each', async () => {
    const told = await identify({ vendor_name: 'ACME', revision: '1.2' });
    expect(told).toEqual({ code: 0, out: 'vendor_name: ACME\nrevision: 1.2\n', err: '' });
  });

  it('says so when the device names nothing', async () => {
    const told = await identify({});
    expect(told).toMatchObject({ code: 0, out: '' });
    expect(told.err).toBe('Device "meter-1" answered, but names no vendor, product or revision.\n');
  });
});
