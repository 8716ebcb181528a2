// RTU and ASCII on pseudo-terminals: against pymodbus, which nobody here wrote, and against a server that misbehaves.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import type { SerialPort } from 'serialport';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ModbusAdapter } from '../../modules/modbus/adapter.ts';
import type { DeviceId } from '../../src/core/device.ts';
import { isGatewayError } from '../../src/core/errors.ts';
import { type Misbehaviour, ModbusServer } from '../sim/modbus-server.ts';
import { waitFor } from '../support/wait.ts';
import { adapterFor, NEVER, record, type Recording } from '../unit/modules/modbus/harness.ts';
import { closeEnd, type Line, openEnd, serialLine } from '../support/serial-line.ts';

const METER = 'meter' as DeviceId;
const FAST = { timeout_ms: 200, retries: 0 };
const POINTS = {
  low: { register: 'holding:10', writable: true },
  high: { register: 'holding:500' },
  relay: { register: 'coil:3', writable: true },
};

let line: Line;
let recording: Recording;
let adapter: ModbusAdapter | undefined;
let far: SerialPort | undefined;
let peer: ChildProcess | undefined;

beforeEach(async () => {
  line = await serialLine();
  recording = record();
});

afterEach(async () => {
  await adapter?.stop(NEVER);
  if (far !== undefined) await closeEnd(far);
  if (peer?.exitCode === null) {
    peer.kill('SIGKILL');
    await once(peer, 'exit');
  }
  await line[Symbol.asyncDispose]();
  adapter = far = peer = undefined;
});

type Kind = 'rtu' | 'ascii';

function start(kind: Kind, devices: unknown, bus: object = FAST): ModbusAdapter {
  const transport = { kind, path: line.near, baud_rate: 115_200, parity: kind === 'ascii' ? 'even' : 'none' };
  adapter = adapterFor({ transport, ...bus, devices }, recording);
  void adapter.start(NEVER);
  return adapter;
}

function meter(fields: object = {}): object {
  return { [METER]: { unit_id: 1, poll_interval_ms: 60, points: POINTS, ...fields } };
}

/** A server of ours on the far end; registers hold their address. */
async function serveFar(kind: Kind): Promise<ModbusServer> {
  const server = new ModbusServer({ framing: kind });
  server.addDevice(1).set(
    'holding',
    0,
    Array.from({ length: 1000 }, (_, index) => index),
  );
  far = await openEnd(line.far);
  server.serve(far);
  return server;
}

async function servePymodbus(kind: Kind): Promise<void> {
  const script = join(import.meta.dirname, '..', 'sim', 'pymodbus-server.py');
  peer = spawn('/usr/bin/python3', [script, kind, line.far, '115200'], { stdio: ['pipe', 'pipe', 'inherit'] });
  if (peer.stdout !== null) await once(peer.stdout, 'data');
}

const write = (point: string, value: number | boolean) => adapter?.write?.({ deviceId: METER, point, value }, NEVER);

describe.each<Kind>(['rtu', 'ascii'])('%s against pymodbus', (kind) => {
  it('reads, writes, changes bits and identifies', async () => {
    await servePymodbus(kind);
    const points = { ...POINTS, bit: { register: 'holding:20', bit: 3, writable: true } };
    start(kind, meter({ points, poll_interval_ms: 200 }), { timeout_ms: 1000, retries: 1 });
    await waitFor(() => recording.state(METER) === 'good');
    expect(recording.value(METER, 'low')).toBe(10);
    expect(recording.value(METER, 'high')).toBe(500);
    expect(recording.value(METER, 'relay')).toBe(true);
    expect(await write('low', 4711)).toEqual({ readBack: 4711, quality: { level: 'good' } });
    expect(await write('relay', false)).toEqual({ readBack: false, quality: { level: 'good' } });
    // 20 is 0b10100.
    expect(await write('bit', true)).toEqual({ readBack: true, quality: { level: 'good' } });
    await waitFor(() => recording.value(METER, 'low') === 4711 && recording.value(METER, 'relay') === false);
    expect(await adapter?.identify(METER, NEVER)).toMatchObject({
      vendor_name: 'pymodbus',
      product_code: 'PM',
      revision: '3.0.0',
    });
  });

  it('comes back after the server was paused and killed', async () => {
    await servePymodbus(kind);
    start(kind, meter({ circuit_breaker: { probe_interval_min_ms: 100 } }), { timeout_ms: 300, retries: 0 });
    await waitFor(() => recording.state(METER) === 'good');
    peer?.kill('SIGSTOP');
    await waitFor(() => recording.state(METER) === 'offline');
    expect(recording.quality(METER, 'low')).toBe('bad:timeout');
    peer?.kill('SIGCONT');
    await waitFor(() => recording.state(METER) === 'good');
    peer?.kill('SIGKILL');
    await waitFor(() => recording.state(METER) === 'offline');
    await servePymodbus(kind);
    await waitFor(() => recording.state(METER) === 'good');
    expect(recording.value(METER, 'high')).toBe(500);
  });
});

describe.each<Kind>(['rtu', 'ascii'])('%s against a server that misbehaves', (kind) => {
  const cases: { does: Misbehaviour; quality: string }[] = [
    { does: { kind: 'silence' }, quality: 'bad:timeout' },
    { does: { kind: 'exception', code: 4 }, quality: 'bad:exception_4' },
    { does: { kind: 'bad_check' }, quality: kind === 'rtu' ? 'bad:crc' : 'bad:lrc' },
    { does: { kind: 'wrong_unit' }, quality: 'bad:unit_id' },
    { does: { kind: 'wrong_function' }, quality: 'bad:function' },
    { does: { kind: 'truncated', bytes: 4 }, quality: 'bad:truncated' },
    { does: { kind: 'oversized', registers: 3 }, quality: 'bad:length' },
    { does: { kind: 'raw', bytes: Buffer.from('garbage\r\n') }, quality: 'bad:garbled' },
  ];

  it.each(cases)('names $does.kind and recovers', async ({ does, quality }) => {
    const server = await serveFar(kind);
    server.behave(() => does);
    const points = { low: POINTS.low };
    start(kind, meter({ points, circuit_breaker: { failures: 100 } }));
    await waitFor(() => recording.quality(METER, 'low') === quality, {
      what: `${quality}, was ${recording.quality(METER, 'low')}`,
    });
    server.behave(() => undefined);
    await waitFor(() => recording.value(METER, 'low') === 10);
    expect(recording.state(METER)).toBe('good');
  });

  it('takes answers that come byte by byte, and answers that come twice', async () => {
    const server = await serveFar(kind);
    server.behave(({ address }) => (address === 10 ? { kind: 'dribble', gapMs: 2 } : { kind: 'repeat' }));
    // A machine with other work draws the pauses out.
    start(kind, meter(), { timeout_ms: 3000, retries: 0 });
    await waitFor(() => recording.batches.length >= 5);
    expect(recording.exchanges.every(({ outcome }) => outcome === 'ok')).toBe(true);
    expect(recording.value(METER, 'high')).toBe(500);
  });

  it('never takes an answer that comes late for the next one', async () => {
    // Two requests that only their address tells apart; every other answer comes after its time limit. Long enough that what
    // a busy machine adds does not make an answer later than a unit's first one may be.
    const limitMs = 500;
    const server = await serveFar(kind);
    let count = 0;
    server.behave(() => {
      count += 1;
      return count % 2 === 0 ? { kind: 'delay', ms: limitMs + 15 + ((count * 13) % 80) } : undefined;
    });
    const points = { low: POINTS.low, high: POINTS.high };
    const other = { unit_id: 2, poll_interval_ms: 60, points, circuit_breaker: { failures: 100 } };
    server.addDevice(2).set(
      'holding',
      0,
      Array.from({ length: 1000 }, (_, index) => 5000 + index),
    );
    const bus = { timeout_ms: limitMs, retries: 0 };
    start(kind, { ...meter({ points, circuit_breaker: { failures: 100 } }), other }, bus);
    await waitFor(() => count >= 30, { timeoutMs: 40_000 });
    const values = (device: string, point: string): unknown[] =>
      recording.batches
        .filter(({ deviceId }) => deviceId === device)
        .flatMap(({ readings }) => readings.filter((reading) => reading.point === point && reading.value !== undefined))
        .map(({ value }) => value);
    expect(new Set(values(METER, 'low'))).toEqual(new Set([10]));
    expect(new Set(values('other', 'low'))).toEqual(new Set([5010]));
    for (const value of values(METER, 'high')) expect(value).toBe(500);
    for (const value of values('other', 'high')) expect(value).toBe(5500);
  });

  it('never takes the answer of one that is always slower than its timeout for another', async () => {
    const server = await serveFar(kind);
    server.behave(() => ({ kind: 'delay', ms: 240 }));
    const points = { low: POINTS.low, high: POINTS.high };
    start(kind, meter({ points, circuit_breaker: { failures: 100 } }), { timeout_ms: 100, retries: 1 });
    const good = (point: string): unknown[] =>
      recording.batches.flatMap(({ readings }) =>
        readings.filter((reading) => reading.point === point && reading.value !== undefined).map(({ value }) => value),
      );
    await waitFor(() => good('low').length >= 4 && good('high').length >= 4, { timeoutMs: 30_000 });
    expect(new Set(good('low'))).toEqual(new Set([10]));
    expect(new Set(good('high'))).toEqual(new Set([500]));
  });

  it('never takes an answer for the next one after the line stood still for more than three timeouts', async () => {
    const server = await serveFar(kind);
    let stallEndMs: number | undefined;
    server.behave(({ address }) => {
      const nowMs = performance.now();
      if (address === 500 && recording.batches.length >= 4) stallEndMs ??= nowMs + 1750;
      const ms = (stallEndMs ?? nowMs) - nowMs;
      return ms > 0 ? { kind: 'delay', ms } : undefined;
    });
    const points = { low: POINTS.low, high: POINTS.high };
    start(kind, meter({ points, circuit_breaker: { failures: 100 } }), { timeout_ms: 500, retries: 1 });
    const good = (point: string): unknown[] =>
      recording.batches.flatMap(({ readings }) =>
        readings.filter((reading) => reading.point === point && reading.value !== undefined).map(({ value }) => value),
      );
    await waitFor(() => stallEndMs !== undefined && performance.now() > stallEndMs);
    const before = good('low').length;
    await waitFor(() => good('low').length >= before + 4, { timeoutMs: 30_000 });
    expect(new Set(good('low'))).toEqual(new Set([10]));
    expect(new Set(good('high'))).toEqual(new Set([500]));
  });

  it('leaves a dead unit its own time only', async () => {
    const server = await serveFar(kind);
    const dead = { unit_id: 9, poll_interval_ms: 60, points: POINTS, circuit_breaker: { probe_interval_min_ms: 500 } };
    start(kind, { ...meter(), dead }, { timeout_ms: 100, retries: 1 });
    await waitFor(() => recording.state('dead') === 'offline' && recording.state(METER) === 'good');
    const polls = (): number => recording.polls.filter(({ deviceId }) => deviceId === METER).length;
    const probes = (): number[] => server.requests.filter(({ unitId }) => unitId === 9).map(({ atMs }) => atMs);
    const [pollsBefore, probesBefore] = [polls(), probes().length];
    await waitFor(() => probes().length >= probesBefore + 3 && polls() >= pollsBefore + 16, { timeoutMs: 20_000 });
    // Each costs a timeout, and ten times that lies between two; polled like any other it would be asked thrice in 600 ms.
    const [firstMs = 0, , thirdMs = 0] = probes().slice(probesBefore);
    expect(thirdMs - firstMs).toBeGreaterThanOrEqual(1500);
  });
});

describe('broadcasts', () => {
  it('are sent, not waited for, and followed by the turnaround delay', async () => {
    const server = await serveFar('rtu');
    const all = server.addDevice(0);
    start(
      'rtu',
      { ...meter(), all: { unit_id: 0, points: { setpoint: { register: 'holding:5', writable: true } } } },
      { timeout_ms: 500, retries: 0, turnaround_ms: 150 },
    );
    await waitFor(() => recording.state(METER) === 'good');
    // What the dispatcher asks for before it sends a command down.
    expect(recording.state('all')).toBe('good');
    expect(await adapter?.write?.({ deviceId: 'all' as DeviceId, point: 'setpoint', value: 9 }, NEVER)).toEqual({
      quality: { level: 'uncertain', reason: 'broadcast' },
    });
    const next = await waitFor(() => {
      const index = server.requests.findIndex(({ unitId, functionCode }) => unitId === 0 && functionCode === 6);
      return index < 0 ? undefined : server.requests[index + 1];
    });
    const sent = server.requests.find(({ unitId, functionCode }) => unitId === 0 && functionCode === 6);
    expect(all.holding[5]).toBe(9);
    expect(next.atMs - (sent?.atMs ?? 0)).toBeGreaterThanOrEqual(140);
    await line.unplug();
    await waitFor(() => recording.state('all') === 'offline');
  });
});

describe('the port', () => {
  it('is absent, appears, is unplugged and comes back', async () => {
    await line.unplug();
    // So seldom that no poll finds out about the port.
    start('rtu', meter({ poll_interval_ms: 3_600_000 }));
    await waitFor(() => recording.quality(METER, 'low') === 'bad:disconnected');
    expect(adapter?.health().reason).toContain(`${line.near} does not exist or has no device (ENOENT)`);
    for (let round = 0; round < 3; round += 1) {
      await line.plug();
      const server = await serveFar('rtu');
      await waitFor(() => recording.state(METER) === 'good');
      expect(server.requests.length).toBeGreaterThan(0);
      if (far !== undefined) await closeEnd(far);
      await line.unplug();
      await waitFor(() => recording.quality(METER, 'low') === 'bad:disconnected');
    }
  });

  it('is held by another program', async () => {
    await serveFar('rtu');
    const holder = await openEnd(line.near);
    start('rtu', meter());
    await waitFor(() => recording.quality(METER, 'low') === 'bad:disconnected');
    expect(adapter?.health().reason).toMatch(new RegExp(`^${line.near} is held by process ${process.pid} \\(`));
    await closeEnd(holder);
    await waitFor(() => recording.state(METER) === 'good');
    expect(adapter?.health()).toEqual({ status: 'running' });
  });

  it('is no serial port', async () => {
    const transport = { kind: 'rtu', path: '/dev/null' };
    adapter = adapterFor({ transport, devices: meter() }, recording);
    await adapter.start(NEVER);
    await waitFor(() => adapter?.health().status === 'degraded');
    expect(adapter.health().reason).toContain('/dev/null opens, but does not take the line settings');
  });

  it('may not be opened by this user', async () => {
    await chmod(line.near, 0o600);
    const script = `
      import { serialLink } from ${JSON.stringify(join(import.meta.dirname, '../../src/wire/serial-link.ts'))};
      const opener = serialLink({ path: process.argv[1], baudRate: 9600, dataBits: 8, parity: 'none', stopBits: 1 });
      process.setgroups?.([]);
      process.setgid?.(65534);
      process.setuid?.(65534);
      opener.open({ onData() {}, onClosed() {} }, new AbortController().signal).then(() => console.log('opened'), (error) => console.log(error.code, error.message));
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, line.near], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.on('data', (text: Buffer) => {
      output += text.toString();
    });
    await once(child, 'exit');
    expect(output).toContain('GW_SERIAL_DENIED');
    expect(output).toContain('group of the port');
  });

  it('does not hold up the stop while it is opened again and again', async () => {
    await line.unplug();
    const running = start('rtu', meter());
    await waitFor(() => running.health().status === 'degraded');
    const startMs = performance.now();
    await running.stop(NEVER);
    expect(performance.now() - startMs).toBeLessThan(500);
    expect(
      isGatewayError(
        await running.write?.({ deviceId: METER, point: 'low', value: 1 }, NEVER).catch((error: unknown) => error),
      ),
    ).toBe(true);
  });
});
