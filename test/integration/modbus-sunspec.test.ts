// The profile of SunSpec inverters against a map that pymodbus serves.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { createModbusAdapter, type ModbusAdapter } from '../../modules/modbus/adapter.ts';
import type { ModbusConfig } from '../../modules/modbus/config.ts';
import { modbus } from '../../modules/modbus/index.ts';
import { createScanRunner } from '../../src/admin/scan.ts';
import { loadConfigText } from '../../src/config/load.ts';
import { ModuleCatalogue } from '../../src/config/schema.ts';
import type { ScanFinding } from '../../src/core/scan.ts';
import { silentLogger } from '../../src/observe/logger.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { freePort } from '../support/free-port.ts';
import { waitFor } from '../support/wait.ts';
import { NEVER, record } from '../unit/modules/modbus/harness.ts';

const HOST = '127.0.67.2';

let adapter: ModbusAdapter | undefined;
let peer: ChildProcess | undefined;

afterEach(async () => {
  await adapter?.stop(NEVER);
  if (peer === undefined || peer.exitCode !== null) return;
  peer.kill('SIGKILL');
  await once(peer, 'exit');
});

/** Resolves with its port. */
async function servePymodbus(base: number): Promise<number> {
  const port = await freePort(HOST);
  const script = join(import.meta.dirname, '..', 'sim', 'pymodbus-sunspec.py');
  const server = spawn('/usr/bin/python3', [script, HOST, String(port), String(base)], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  peer = server;
  await once(server.stdout, 'data');
  return port;
}

it('is told by a scan, with the profile that fits', async () => {
  const port = await servePymodbus(50_000);
  const findings: ScanFinding[] = [];
  const run = createScanRunner({
    modules: [modbus],
    running: () => [],
    clock: new SystemClock(),
    log: silentLogger,
    profileDirectory: '/nowhere',
  });
  const options = { host: HOST, port, unit_ids: '126', timeout_ms: 200, skip_ranges: true };
  await run(
    { type: 'modbus', options },
    { signal: NEVER, report: (event) => event.kind === 'found' && findings.push(event.finding) },
  );
  expect(findings[0]?.facts).toEqual({ 'SunSpec models': '1, 64001, 103', profile: 'sunspec-inverter' });
  expect(findings[0]?.suggestion).toContain('profile: sunspec-inverter');
});

it.each([40_000, 0])('reads a three-phase inverter whose map is at %i', async (base) => {
  const port = await servePymodbus(base);
  const loaded = loadConfigText(
    `adapters:
  bus:
    type: modbus
    transport: { kind: tcp, host: ${HOST}, port: ${port} }
    devices: { inverter: { unit_id: 126, profile: sunspec-inverter, poll_interval_ms: 100 } }
`,
    { catalogue: new ModuleCatalogue([modbus]), file: 'site.yaml' },
  );
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.faults));
  const recording = record();
  adapter = createModbusAdapter(loaded.loaded.config.adapters[0]?.settings as ModbusConfig, recording.context);
  void adapter.start(NEVER);
  await waitFor(() => recording.batches.length >= 2);
  const values = Object.fromEntries(recording.batches[1]?.readings.map(({ point, value }) => [point, value]) ?? []);
  expect(values).toEqual({
    ac_current: 12.5,
    ac_current_l1: 4.17,
    ac_current_l2: 4.16,
    ac_current_l3: 4.17,
    ac_voltage_l1_l2: 400.2,
    ac_voltage_l2_l3: 401.2,
    ac_voltage_l3_l1: 399.5,
    ac_voltage_l1: 230.1,
    ac_voltage_l2: 231.1,
    ac_voltage_l3: 229.8,
    ac_power: 8650,
    ac_frequency: 50.02,
    apparent_power: 8670,
    reactive_power: -420,
    power_factor: -99.8,
    energy_export: 1_234_567,
    dc_voltage: 610.5,
    dc_power: 9013,
    temperature_cabinet: 45.2,
    state: 'mppt',
  });
  for (const absent of ['dc_current', 'temperature_heat_sink', 'temperature_other']) {
    expect(recording.quality('inverter', absent)).toBe('bad:not_available');
  }
  expect(recording.state('inverter')).toBe('good');
});
