// `scan modbus` against a bus by pymodbus, over TCP and on a pseudo-terminal, alone and through a running adapter.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import type { ModbusAdapter } from '../../modules/modbus/adapter.ts';
import { modbus } from '../../modules/modbus/index.ts';
import { createScanRunner } from '../../src/admin/scan.ts';
import type { Adapter } from '../../src/core/adapter.ts';
import type { ScanEvent, ScanFinding } from '../../src/core/scan.ts';
import { silentLogger } from '../../src/observe/logger.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { freePort } from '../support/free-port.ts';
import { waitFor } from '../support/wait.ts';
import { adapterFor, NEVER, record, serve } from '../unit/modules/modbus/harness.ts';
import { serialLine } from '../support/serial-line.ts';

const HOST = '127.0.67.1';
const FACTS_1 = {
  vendor_name: 'Fieldpost Works',
  product_code: 'FW-7',
  'readable holding': '0-9, 100-104',
  'readable input': '0-19',
};

const directory = createTempDir('scan');
afterAll(() => directory.remove());

let peers: ChildProcess[] = [];
let adapter: ModbusAdapter | undefined;

afterEach(async () => {
  await adapter?.stop(NEVER);
  adapter = undefined;
  for (const peer of peers) {
    if (peer.exitCode !== null || peer.signalCode !== null) continue;
    peer.kill('SIGKILL');
    await once(peer, 'exit');
  }
  peers = [];
});

async function servePymodbus(...args: string[]): Promise<void> {
  const script = join(import.meta.dirname, '..', 'sim', 'pymodbus-site.py');
  const peer = spawn('/usr/bin/python3', [script, ...args], { stdio: ['pipe', 'pipe', 'ignore'] });
  peers.push(peer);
  await once(peer.stdout, 'data');
}

interface Outcome {
  readonly findings: ScanFinding[];
  readonly notes: string[];
  readonly events: ScanEvent[];
}

async function scan(
  options: Record<string, unknown>,
  {
    running = [],
    signal = NEVER,
    events = [],
  }: { running?: readonly Adapter[]; signal?: AbortSignal; events?: ScanEvent[] } = {},
): Promise<Outcome> {
  const run = createScanRunner({
    modules: [modbus],
    running: () => running,
    clock: new SystemClock(),
    log: silentLogger,
    profileDirectory: directory.path,
  });
  await run({ type: 'modbus', options }, { signal, report: (event) => events.push(event) });
  return {
    events,
    findings: events.flatMap((event) => (event.kind === 'found' ? [event.finding] : [])),
    notes: events.flatMap((event) => (event.kind === 'note' ? [event.text] : [])),
  };
}

describe('a scan over TCP', () => {
  it('finds the devices, their ranges around holes, who they are and the order of their bytes', async () => {
    const port = await freePort(HOST);
    await servePymodbus('tcp', HOST, String(port));
    const { findings, events } = await scan({
      host: HOST,
      port,
      unit_ids: '1-3,7,42',
      timeout_ms: 200,
      addresses: '0-399',
    });
    expect(events[0]).toMatchObject({ kind: 'estimate', longestMs: 2000 });
    expect(findings.map(({ place }) => place)).toEqual([1, 7, 42].map((unit) => `tcp://${HOST}:${port}, unit ${unit}`));
    expect(findings[0]?.facts).toMatchObject({ ...FACTS_1, 'byte order': expect.stringContaining('CDAB (') });
    expect(findings[0]?.suggestion).toContain('byte_order: CDAB');
    expect(findings[1]?.facts).toMatchObject({ 'readable holding': '0-299', 'readable coil': '0-15' });
    expect(findings[1]?.facts['byte order']).toBeUndefined();
    expect(findings[2]?.facts).toMatchObject({ 'byte order': expect.stringContaining('ABCD (') });
  });

  it('finds a device that is silent to function 3 but answers function 4', async () => {
    const server = await serve(HOST);
    server.answer = (request) =>
      request.functionCode === 4 && request.unitId === 2
        ? { pdu: Buffer.concat([Buffer.from([4, request.quantity * 2]), Buffer.alloc(request.quantity * 2, 7)]) }
        : undefined;
    const { findings } = await scan({
      host: HOST,
      port: server.port,
      unit_ids: '1-3',
      timeout_ms: 100,
      addresses: '0-20',
      tables: 'holding,input',
    });
    await server.close();
    expect(findings.map(({ place }) => place)).toEqual([`tcp://${HOST}:${server.port}, unit 2`]);
    expect(findings[0]?.facts).toEqual({ 'readable input': '0-20' });
  });

  it('goes through the line of a running adapter, which goes on polling', async () => {
    const port = await freePort(HOST);
    await servePymodbus('tcp', HOST, String(port));
    const recording = record();
    adapter = adapterFor(
      {
        transport: { kind: 'tcp', host: HOST, port },
        devices: { seven: { unit_id: 7, poll_interval_ms: 50, points: { one: { register: 'holding:1' } } } },
      },
      recording,
    );
    await adapter.start(NEVER);
    await waitFor(() => recording.state('seven') === 'good');
    const before = recording.batches.length;
    const { findings, notes } = await scan(
      { host: HOST, port, unit_ids: '1-6', timeout_ms: 150, addresses: '0-150', tables: 'holding' },
      { running: [adapter] },
    );
    expect(findings).toHaveLength(1);
    expect(findings[0]?.facts).toMatchObject({ 'readable holding': '0-9, 100-104' });
    expect(notes[0]).toContain('is in use by this gateway: searched between its polls');
    // Five silent units in a row neither lost the connection nor spoiled a poll.
    expect(recording.batches.length).toBeGreaterThan(before + 3);
    expect(recording.states.map(({ state }) => state)).toEqual(['good']);
    expect(recording.quality('seven', 'one')).toBe('good');
  });

  it('suggests the profile that a device fits by what it says of itself', async () => {
    const point = 'points: { level: { register: "holding:0" } }';
    const texts = {
      'any-fieldpost': `identification: { vendor_name: fieldpost }`,
      'fw-7': `identification: { vendor_name: fieldpost, product_code: FW-7 }`,
      other: `identification: { vendor_name: Other }`,
      broken: `identification: { vendor_name: 7 }`,
    };
    for (const [name, text] of Object.entries(texts)) {
      writeFileSync(directory.file(`${name}.yaml`), `title: ${name}\nsource: test\n${text}\n${point}\n`);
    }
    const port = await freePort(HOST);
    await servePymodbus('tcp', HOST, String(port));
    const { findings } = await scan({ host: HOST, port, unit_ids: '7', skip_ranges: true });
    expect(findings[0]?.facts['profile']).toBe('fw-7');
    expect(findings[0]?.suggestion).toContain('profile: fw-7');
  });

  it('says that nobody listens there', async () => {
    const port = await freePort(HOST);
    const events: ScanEvent[] = [];
    const scanning = scan({ host: HOST, port, unit_ids: '1-247' }, { events });
    await expect(scanning).rejects.toMatchObject({ code: 'GW_CONNECT' });
    const told = events.filter(({ kind }) => kind === 'note' || kind === 'found');
    expect(told).toEqual([{ kind: 'note', text: expect.stringContaining(`tcp://${HOST}:${port}`) as string }]);
  });

  it('ends when it is told to', async () => {
    const port = await freePort(HOST);
    await servePymodbus('tcp', HOST, String(port));
    const stop = new AbortController();
    const timeoutMs = 10_000;
    const scanning = scan({ host: HOST, port, unit_ids: '100-247', timeout_ms: timeoutMs }, { signal: stop.signal });
    scanning.catch(() => {});
    stop.abort();
    const sinceMs = performance.now();
    await expect(scanning).rejects.toMatchObject({ code: 'GW_ABORTED' });
    // Before even the first of them could have been given up.
    expect(performance.now() - sinceMs).toBeLessThan(timeoutMs);
  });
});

describe('a scan that is stopped while it looks at a device', () => {
  it('has told what it knows of it', async () => {
    const port = await freePort(HOST);
    await servePymodbus('tcp', HOST, String(port));
    const stop = new AbortController();
    const events: ScanEvent[] = [];
    const scanning = scan({ host: HOST, port, unit_ids: '1', timeout_ms: 2000 }, { signal: stop.signal, events });
    scanning.catch(() => {});
    const known = () => events.findLast((event) => event.kind === 'partial')?.finding.facts ?? {};
    await waitFor(() => 'readable holding' in known());
    stop.abort();
    await expect(scanning).rejects.toMatchObject({ code: 'GW_ABORTED' });
    expect(known()).toMatchObject({ vendor_name: 'Fieldpost Works', 'readable holding': '0-9' });
    expect(events.some(({ kind }) => kind === 'found')).toBe(false);
  });
});

describe('a scan of a serial port', () => {
  it('finds devices and the settings that they were found with', async () => {
    await using line = await serialLine();
    await servePymodbus('rtu', line.far, '9600');
    const { findings, notes } = await scan({
      serial: line.near,
      baud_rates: '9600',
      parities: 'none',
      unit_ids: '7',
      timeout_ms: 500,
      addresses: '0-99',
      tables: 'holding',
    });
    expect(findings.map(({ place }) => place)).toEqual([`${line.near} 9600 baud, parity none, unit 7`]);
    expect(notes).toEqual([]);
    expect(findings[0]?.facts).toMatchObject({ product_code: 'FW-7', 'readable holding': '0-99' });
    expect(findings[0]?.suggestion).toContain(`path: ${line.near}, baud_rate: 9600, parity: none`);
  });

  it('finds nobody at a wrong baud rate, where a device sounds like noise, and says what it heard', async () => {
    await using line = await serialLine();
    const say = `exec 3<>${line.far}; while true; do printf '\\377\\016\\200' >&3; sleep 0.02; done`;
    const noise = spawn('sh', ['-c', say], { stdio: 'ignore' });
    peers.push(noise);
    const { findings, notes } = await scan({
      serial: line.near,
      baud_rates: '9600,19200',
      parities: 'none',
      unit_ids: '1-2',
      timeout_ms: 100,
    });
    expect(findings).toEqual([]);
    const heard = (baud: number) => `${line.near} ${baud} baud, parity none: \\d+ bytes came that were no answers`;
    expect(notes).toEqual([9600, 19_200].map((baud) => expect.stringMatching(heard(baud)) as string));
  });

  it('says that a port is held by another program, once, and what to do', async () => {
    await using line = await serialLine();
    const recording = record();
    const devices = { a: { unit_id: 1, points: { one: { register: 'holding:1' } } } };
    adapter = adapterFor({ transport: { kind: 'rtu', path: line.near, parity: 'none' }, devices }, recording);
    await adapter.start(NEVER);
    await waitFor(() => recording.logs.some(({ sentence }) => sentence === 'The bus is connected.'));
    const events: ScanEvent[] = [];
    const options = { serial: `${line.near},/dev/absent`, unit_ids: '1', timeout_ms: 100 };
    // Nothing was searched, so that nothing found says nothing.
    await expect(scan(options, { events })).rejects.toMatchObject({ code: 'GW_SERIAL_MISSING' });
    const notes = events.flatMap((event) => (event.kind === 'note' ? [event.text] : []));
    expect(notes).toHaveLength(2);
    expect(notes[0]).toMatch(/in use|held|locked/);
    expect(notes[1]).toContain('/dev/absent');
  });
});

describe('options of a scan', () => {
  it.each([
    [{}, 'name either host or serial.'],
    [{ host: 'a', serial: '/dev/ttyS0' }, 'name either host or serial.'],
    [{ host: 'a', unit_ids: '1-999' }, 'unit_ids: must be numbers and ranges of 0 to 255, such as 1-10,20.'],
    [{ host: 'a', port: '0' }, 'port: must be 1 to 65535.'],
    [{ host: 'a', framing: 'rtu' }, 'framing does not fit'],
    [{ serial: 'a', baud_rates: 'fast' }, 'baud_rates: must be baud rates, such as 9600,19200.'],
    [{ serial: 'a', parities: 'odd,strange' }, 'parities: must be some of none,even,odd.'],
  ])('%j are refused', async (options, text) => {
    await expect(scan(options)).rejects.toMatchObject({ code: 'GW_USAGE', message: expect.stringContaining(text) });
  });
});
