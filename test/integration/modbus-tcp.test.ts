// The adapter over real sockets against a server whose every answer is scripted: what it makes of bad answers, silence,
// refusals and lost connections, and that each of them harms only whom it concerns.

import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ModbusAdapter } from '../../modules/modbus/adapter.ts';
import { isGatewayError } from '../../src/core/errors.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { waitFor } from '../support/wait.ts';
import {
  adapterFor,
  addresses,
  exception,
  frameOf,
  NEVER,
  record,
  type Recording,
  type ScriptedServer,
  type ServedRequest,
  serve,
} from '../unit/modules/modbus/harness.ts';

const HOST = '127.0.42.1';
const FAST = { timeout_ms: 100, retries: 0 };
const POINT = { voltage: { register: 'holding:7' } };

let server: ScriptedServer;
let recording: Recording;
let adapter: ModbusAdapter | undefined;

beforeEach(async () => {
  server = await serve(HOST);
  recording = record();
});

afterEach(async () => {
  await adapter?.stop(NEVER);
  adapter = undefined;
  await server.close();
});

function start(devices: unknown, bus: object = FAST): ModbusAdapter {
  const transport = { kind: 'tcp', host: HOST, port: server.port, connect_timeout_ms: 500 };
  adapter = adapterFor({ transport, ...bus, devices }, recording);
  void adapter.start(NEVER);
  return adapter;
}

/** One device with one point, polled every 50 ms. */
function meter(fields: object = {}): object {
  return { meter: { unit_id: 1, poll_interval_ms: 50, points: POINT, ...fields } };
}

const pdu = (hex: string): { pdu: Buffer } => ({ pdu: Buffer.from(hex, 'hex') });

describe('a peer that floods', () => {
  it('is closed, left alone for longer each time, and told of once', async () => {
    let accepted = 0;
    let written = 0;
    const answer = Buffer.alloc(16 * 1024, Buffer.from('00ff0000000501030200070000', 'hex'));
    const flood = createServer((socket) => {
      accepted += 1;
      const pour = (): void => {
        while (!socket.destroyed && socket.write(answer));
      };
      socket.on('drain', pour).on('error', () => {});
      socket.on('close', () => (written += socket.bytesWritten));
      pour();
    });
    flood.listen(0, HOST);
    await once(flood, 'listening');
    const { port } = flood.address() as AddressInfo;
    adapter = adapterFor(
      { transport: { kind: 'tcp', host: HOST, port }, ...FAST, devices: meter() as Record<string, unknown> },
      recording,
    );
    await adapter.start(NEVER);
    await waitFor(() => accepted >= 3, { timeoutMs: 20_000 });
    expect(recording.state('meter')).toBe('offline');
    const told = recording.logs.filter(({ level, sentence }) => level === 'warn' && /not connected/.test(sentence));
    expect(told).toHaveLength(1);
    // What it wrote before it was cut off, the system's buffers included: reading on would have no end.
    expect(written).toBeLessThan(32 * 1024 * 1024);
    flood.close();
  });
});

describe('polls', () => {
  it('reads at once, however long the period is', async () => {
    start(meter({ poll_interval_ms: 3_600_000 }));
    await waitFor(() => recording.value('meter', 'voltage') === 7);
    expect(recording.state('meter')).toBe('good');
  });

  it('reads every period', async () => {
    start(meter());
    await waitFor(() => recording.polls.length >= 10);
    expect(recording.exchanges.every(({ outcome }) => outcome === 'ok')).toBe(true);
    expect(recording.polls.every(({ latenessMs }) => latenessMs >= 0)).toBe(true);
  });

  it('gives points with periods of their own messages of their own', async () => {
    start(
      meter({ points: { slow: { register: 'holding:1', poll_interval_ms: 400 }, fast: { register: 'holding:2' } } }),
    );
    const messages = (point: string) => recording.batches.filter(({ readings }) => readings[0]?.point === point).length;
    await waitFor(() => messages('fast') >= 12 && messages('slow') >= 2);
    // Those that a busy machine missed too.
    const periods = (lengthMs: number): number =>
      recording.polls
        .filter(({ periodMs }) => periodMs === lengthMs)
        .reduce((sum, { missedPolls }) => sum + 1 + missedPolls, 0);
    expect(periods(400)).toBeLessThanOrEqual(periods(50) / 8 + 2);
    expect(recording.batches.every(({ readings }) => readings.length === 1)).toBe(true);
  });

  it('waits while the pipeline takes no more, and counts the polls that it missed', async () => {
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    recording = record({ ready: () => gate });
    start(meter());
    await waitFor(() => server.accepted === 1);
    const heldMs = performance.now();
    await waitFor(() => performance.now() - heldMs > 250);
    expect(server.requests).toHaveLength(0);
    open();
    await waitFor(() => recording.polls.length >= 3);
    expect(recording.polls.reduce((sum, { missedPolls }) => sum + missedPolls, 0)).toBeGreaterThanOrEqual(2);
  });
});

describe('bad answers', () => {
  const cases: {
    name: string;
    answer: (request: ServedRequest) => ReturnType<ScriptedServer['answer']>;
    quality: string;
  }[] = [
    { name: 'silence', answer: () => undefined, quality: 'bad:timeout' },
    { name: 'an exception', answer: (request) => exception(request, 4), quality: 'bad:exception_4' },
    { name: 'a refused address', answer: (request) => exception(request, 2), quality: 'bad:exception_2' },
    { name: 'an unknown exception', answer: (request) => exception(request, 99), quality: 'bad:exception_99' },
    {
      name: 'a wrong unit id',
      answer: (request) => ({ frame: frameOf(request, pdu('03020007').pdu, { unitId: 9 }) }),
      quality: 'bad:unit_id',
    },
    {
      name: 'a wrong transaction id',
      answer: (request) => ({
        frame: frameOf(request, pdu('03020007').pdu, { transactionId: request.transactionId + 100 }),
      }),
      quality: 'bad:transaction_id',
    },
    {
      name: 'a wrong protocol id',
      answer: (request) => ({ frame: frameOf(request, pdu('03020007').pdu, { protocolId: 7 }) }),
      quality: 'bad:protocol_id',
    },
    { name: 'another function', answer: () => pdu('04020007'), quality: 'bad:function' },
    { name: 'too few registers', answer: () => pdu('0300'), quality: 'bad:length' },
    { name: 'too many registers', answer: () => pdu('030400070008'), quality: 'bad:length' },
    { name: 'a byte count that lies', answer: () => pdu('03ff0007'), quality: 'bad:length' },
    {
      name: 'a truncated frame',
      answer: (request) => ({ frame: frameOf(request, pdu('03020007').pdu).subarray(0, 9) }),
      quality: 'bad:truncated',
    },
    {
      name: 'an oversized frame',
      answer: (request) => ({ frame: frameOf(request, Buffer.alloc(300, 3)) }),
      quality: 'bad:oversized',
    },
    {
      name: 'an empty frame',
      answer: (request) => ({ frame: frameOf(request, Buffer.alloc(0), { length: 0 }) }),
      quality: 'bad:protocol_id',
    },
    {
      name: 'something else altogether',
      answer: () => ({ frame: Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n') }),
      quality: 'bad:protocol_id',
    },
  ];

  it.each(cases)('names $name and recovers', async ({ answer, quality }) => {
    server.answer = answer;
    start(meter({ circuit_breaker: { failures: 100 } }));
    await waitFor(() => recording.quality('meter', 'voltage') === quality, {
      what: `${quality}, was ${recording.quality('meter', 'voltage')}`,
    });
    expect(recording.value('meter', 'voltage')).toBeUndefined();
    expect(['offline', 'degraded']).toContain(recording.state('meter'));
    server.answer = addresses;
    // Holes are remembered until the connection is new.
    if (quality === 'bad:exception_2') for (const socket of server.connections) socket.destroy();
    await waitFor(() => recording.value('meter', 'voltage') === 7);
    expect(recording.state('meter')).toBe('good');
  });

  it('never takes an answer that comes late for the next one', async () => {
    // Each answer carries its own number and comes after the timeout of its request, in the middle of the next ones.
    let count = 0;
    const given = new Map<number, number>();
    server.answer = async (request) => {
      count += 1;
      const value = count;
      given.set(request.transactionId, value);
      const late = value % 3 !== 0;
      if (late) await new Promise((resolve) => setTimeout(resolve, 115 + (value % 5) * 20));
      const data = Buffer.from([3, 2, 0, 0]);
      data.writeUInt16BE(value, 2);
      return { pdu: data };
    };
    start(meter({ circuit_breaker: { failures: 100 } }));
    await waitFor(() => recording.batches.filter(({ readings }) => readings[0]?.quality.level === 'good').length >= 8, {
      timeoutMs: 20_000,
    });
    const values = recording.batches.flatMap(({ readings }) =>
      readings[0]?.value === undefined ? [] : [Number(readings[0].value)],
    );
    // Only answers within the time limit count, and these are those of every third request.
    expect(values.filter((value) => value % 3 !== 0)).toEqual([]);
  });
});

describe('a device that fails', () => {
  it('gives one message at the transition and one each heartbeat', async () => {
    server.answer = () => undefined;
    start(meter({ heartbeat_secs: 1 }));
    await waitFor(() => recording.batches.length === 1);
    expect(recording.quality('meter', 'voltage')).toBe('bad:timeout');
    const firstMs = recording.batches[0]?.time.monotonicMs ?? 0;
    await waitFor(() => recording.batches.length === 2);
    const secondMs = recording.batches[1]?.time.monotonicMs ?? 0;
    expect(secondMs - firstMs).toBeGreaterThanOrEqual(1000);
    expect(recording.states.filter(({ state }) => state === 'offline')).toHaveLength(1);
  });

  it('is found again long before its next poll, when that is far', async () => {
    server.answer = () => undefined;
    const breaker = { failures: 1, probe_interval_min_ms: 100, probe_interval_max_ms: 200 };
    start(meter({ poll_interval_ms: 3_600_000, circuit_breaker: breaker }));
    await waitFor(() => recording.state('meter') === 'offline');
    server.answer = addresses;
    await waitFor(() => recording.state('meter') === 'good');
    // Back in its long period.
    const before = server.requests.length;
    const startMs = performance.now();
    await waitFor(() => performance.now() - startMs > 500);
    expect(server.requests.length).toBe(before);
  });

  it('costs the others on its bus little', async () => {
    server.answer = (request) => (request.unitId === 9 ? undefined : addresses(request));
    const healthy = { unit_id: 1, poll_interval_ms: 50, points: POINT };
    const dead = { unit_id: 9, poll_interval_ms: 50, points: POINT, circuit_breaker: { probe_interval_min_ms: 400 } };
    start({ healthy, dead }, { timeout_ms: 100, retries: 1 });
    await waitFor(() => recording.state('dead') === 'offline' && recording.state('healthy') === 'good');
    const polls = (): number => recording.polls.filter(({ deviceId }) => deviceId === 'healthy').length;
    const probes = (): number[] => server.requests.filter(({ unitId }) => unitId === 9).map(({ atMs }) => atMs);
    const [pollsBefore, probesBefore] = [polls(), probes().length];
    await waitFor(() => probes().length >= probesBefore + 3 && polls() >= pollsBefore + 16, { timeoutMs: 20_000 });
    // Each costs a timeout, and ten times that lies between two; polled like any other it would be asked thrice in 600 ms.
    const [firstMs = 0, , thirdMs = 0] = probes().slice(probesBefore);
    expect(thirdMs - firstMs).toBeGreaterThanOrEqual(1500);
    server.answer = addresses;
    await waitFor(() => recording.state('dead') === 'good');
  });

  it('is left in peace between its probes, with others that are dead as well', async () => {
    server.answer = (request) => (request.unitId < 9 ? addresses(request) : undefined);
    let timers = 0;
    const clock = new SystemClock();
    const after = clock.after.bind(clock);
    clock.after = (ms, callback) => {
      timers += 1;
      return after(ms, callback);
    };
    recording = record({ clock });
    const dead = {
      poll_interval_ms: 1000,
      points: POINT,
      circuit_breaker: { failures: 1, probe_interval_min_ms: 100 },
    };
    start(
      { a: { ...dead, unit_id: 9 }, b: { ...dead, unit_id: 10 }, c: { ...dead, unit_id: 11 } },
      { timeout_ms: 100 },
    );
    await waitFor(() => ['a', 'b', 'c'].every((device) => recording.state(device) === 'offline'));
    const probes = (): number => server.requests.length;
    const [timersBefore, probesBefore] = [timers, probes()];
    await waitFor(() => probes() >= probesBefore + 3, { timeoutMs: 20_000 });
    // Each device looks for its turn a few times a second; one that was due and not served asked a thousand times.
    expect(timers - timersBefore).toBeLessThan(200);
  });

  it('is asked again within the poll, as often as configured', async () => {
    let count = 0;
    server.answer = (request) => {
      count += 1;
      return count % 3 === 0 ? addresses(request) : undefined;
    };
    start(meter({ poll_interval_ms: 10_000, circuit_breaker: { failures: 10 } }), { timeout_ms: 60, retries: 2 });
    await waitFor(() => recording.batches.length === 1);
    expect(recording.quality('meter', 'voltage')).toBe('good');
    expect(recording.exchanges.map(({ outcome }) => outcome)).toEqual(['timeout', 'timeout', 'ok']);
  });

  it('is waited for when it is busy', async () => {
    let count = 0;
    server.answer = (request) => {
      count += 1;
      return count === 1 ? exception(request, 6) : addresses(request);
    };
    start(meter({ poll_interval_ms: 10_000 }), { timeout_ms: 60, retries: 1 });
    await waitFor(() => recording.quality('meter', 'voltage') === 'good');
    expect(recording.exchanges.map(({ outcome }) => outcome)).toEqual(['exception_6', 'ok']);
  });
});

describe('holes', () => {
  it('finds what can be read, and does not ask again for what cannot', async () => {
    const readable = (request: ServedRequest): boolean =>
      request.address > 13 || request.address + request.quantity <= 13;
    server.answer = (request) => (readable(request) ? addresses(request) : exception(request, 2));
    const points = Object.fromEntries(
      Array.from({ length: 20 }, (_, index) => [`r${index}`, { register: `holding:${index}` }]),
    );
    start(meter({ points }));
    await waitFor(() => recording.polls.length >= 3);
    for (let index = 0; index < 20; index += 1) {
      expect(recording.quality('meter', `r${index}`), `r${index}`).toBe(index === 13 ? 'bad:exception_2' : 'good');
      expect(recording.value('meter', `r${index}`)).toBe(index === 13 ? undefined : index);
    }
    expect(recording.state('meter')).toBe('degraded');
    const after = server.requests.length;
    await waitFor(() => server.requests.length >= after + 6);
    const refused = server.requests.slice(after).filter((request) => !readable(request));
    expect(refused).toEqual([]);
    // Two requests a poll: before the hole and behind it.
    const plan = new Set(server.requests.slice(after).map(({ address, quantity }) => `${address}+${quantity}`));
    expect([...plan].sort()).toEqual(['0+13', '14+6']);
    // A new connection may lead to a device that was set up otherwise.
    server.answer = addresses;
    for (const socket of server.connections) socket.destroy();
    await waitFor(() => recording.quality('meter', 'r13') === 'good');
  });
});

describe('connections', () => {
  it('shows a server that is not there and finds it when it comes', async () => {
    await server.close();
    start(meter());
    await waitFor(() => recording.quality('meter', 'voltage') === 'bad:disconnected');
    expect(recording.state('meter')).toBe('offline');
    expect(adapter?.health()).toMatchObject({ status: 'degraded' });
    expect(adapter?.health().reason).toContain(`tcp://${HOST}:${server.port} cannot be reached (ECONNREFUSED)`);
    server = await serve(HOST, server.port);
    await waitFor(() => recording.quality('meter', 'voltage') === 'good');
    expect(adapter?.health()).toEqual({ status: 'running' });
  });

  it('comes back at once when the server was restarted', async () => {
    start(meter({ poll_interval_ms: 3_600_000 }));
    await waitFor(() => recording.quality('meter', 'voltage') === 'good');
    const { port } = server;
    await server.close();
    await waitFor(() => recording.quality('meter', 'voltage') === 'bad:disconnected');
    server = await serve(HOST, port);
    await waitFor(() => recording.quality('meter', 'voltage') === 'good');
  });

  it('says at once that the server is gone, however far the next poll is', async () => {
    start(meter({ poll_interval_ms: 3_600_000 }));
    await waitFor(() => recording.state('meter') === 'good');
    const { port } = server;
    await server.close();
    await waitFor(() => recording.quality('meter', 'voltage') === 'bad:disconnected');
    expect(recording.state('meter')).toBe('offline');
    server = await serve(HOST, port);
    await waitFor(() => recording.state('meter') === 'good');
  });

  it('does not lose a poll to a connection that ends between two', async () => {
    start(meter(), { timeout_ms: 1000, retries: 1 });
    await waitFor(() => recording.batches.length >= 2);
    for (const socket of server.connections) socket.end();
    await waitFor(() => server.accepted === 2);
    await waitFor(() => recording.batches.length >= 6);
    expect(recording.batches.flatMap(({ readings }) => readings).every(({ quality }) => quality.level === 'good')).toBe(
      true,
    );
  });

  it('leaves a connection on which nothing is heard any more', async () => {
    start(meter({ circuit_breaker: { failures: 100 } }));
    await waitFor(() => recording.quality('meter', 'voltage') === 'good');
    // Half open: the old connection is dead, a new one works.
    const [dead] = server.connections;
    server.answer = (request) => (request.socket === dead ? undefined : addresses(request));
    await waitFor(() => server.accepted === 2);
    await waitFor(() => recording.quality('meter', 'voltage') === 'good');
    expect(recording.exchanges.filter(({ outcome }) => outcome === 'timeout')).toHaveLength(3);
  });

  it('does not storm a server that accepts and never answers', async () => {
    server.answer = () => undefined;
    start(meter());
    await waitFor(() => recording.state('meter') === 'offline');
    const startMs = performance.now();
    await waitFor(() => performance.now() - startMs > 2000);
    expect(server.accepted).toBeLessThanOrEqual(3);
    expect(server.requests.length).toBeLessThanOrEqual(8);
  });

  it('does not storm a server that accepts and closes', async () => {
    let accepted = 0;
    const listener = createServer((socket) => {
      accepted += 1;
      socket.destroy();
    });
    listener.listen(0, HOST);
    await once(listener, 'listening');
    const { port } = listener.address() as { port: number };
    adapter = adapterFor({ transport: { kind: 'tcp', host: HOST, port }, ...FAST, devices: meter() }, recording);
    await adapter.start(NEVER);
    const startMs = performance.now();
    await waitFor(() => performance.now() - startMs > 2000);
    await adapter.stop(NEVER);
    listener.close();
    expect(accepted).toBeGreaterThanOrEqual(2);
    expect(accepted).toBeLessThanOrEqual(6);
    expect(recording.quality('meter', 'voltage')).toBe('bad:disconnected');
  });

  it('keeps the connection to a gateway that waits long for a dead unit, and its other units', async () => {
    let line = Promise.resolve();
    server.answer = (request) => {
      const answer = line.then(async () => {
        await new Promise((resolve) => setTimeout(resolve, request.unitId === 2 ? 450 : 2));
        return request.unitId === 2 ? exception(request, 11) : addresses(request);
      });
      line = answer.then(() => {});
      return answer;
    };
    const device = (unitId: number): object => ({
      unit_id: unitId,
      poll_interval_ms: 50,
      points: POINT,
      circuit_breaker: { failures: 20, probe_interval_min_ms: 100, probe_interval_max_ms: 400 },
    });
    const dead = {
      ...device(2),
      circuit_breaker: { failures: 1, probe_interval_min_ms: 100, probe_interval_max_ms: 400 },
    };
    start({ one: device(1), two: dead, three: device(3) });
    const asked = (): number => server.requests.filter(({ unitId }) => unitId === 2).length;
    // Until it is known to be dead the silence may be the connection's.
    await waitFor(() => asked() >= 3, { timeoutMs: 30_000 });
    const { accepted } = server;
    await waitFor(() => asked() >= 8, { timeoutMs: 30_000 });
    expect(server.accepted).toBe(accepted);
    expect(recording.states.filter(({ reason }) => reason === 'disconnected')).toEqual([]);
  });

  it('gives a sign of life while it waits as long as it may', async () => {
    server.answer = () => undefined;
    const running = start(meter(), { timeout_ms: 20_000, retries: 0 });
    await waitFor(() => server.requests.length === 1);
    const sentMs = new SystemClock().monotonicMs();
    // More than one sign, while the one request waits.
    await waitFor(() => (running.lastProgressMs?.() ?? 0) > sentMs + 400);
    expect(server.requests).toHaveLength(1);
    expect(recording.exchanges).toEqual([]);
  });

  it('gives devices with hosts of their own connections of their own', async () => {
    const other = await serve('127.0.42.2', server.port);
    other.answer = () => undefined;
    const second = { host: '127.0.42.2', timeout_ms: 1500, poll_interval_ms: 50, points: POINT };
    start({ ...meter(), second });
    await waitFor(() => recording.state('meter') === 'good' && recording.state('second') === 'offline');
    expect(recording.quality('second', 'voltage')).toBe('bad:timeout');
    // On one connection the first would have waited for the second's time limit.
    expect(recording.polls.filter(({ deviceId, latenessMs }) => deviceId === 'meter' && latenessMs > 1000)).toEqual([]);
    await adapter?.stop(NEVER);
    await other.close();
  });

  it('shares one connection between devices of one server', async () => {
    const device = (unitId: number): object => ({ unit_id: unitId, poll_interval_ms: 50, points: POINT });
    start({ one: device(1), two: device(2), three: device(3) });
    await waitFor(() => ['one', 'two', 'three'].every((name) => recording.state(name) === 'good'));
    expect(server.accepted).toBe(1);
  });
});

describe('writes', () => {
  const writable = (fields: object): object => meter({ points: { point: { writable: true, ...fields } } });

  async function ready(): Promise<ModbusAdapter> {
    const running = adapter;
    await waitFor(() => recording.state('meter') === 'good');
    return running as ModbusAdapter;
  }

  /** Registers that can be written. */
  function memory(initial = 0): number[] {
    const registers = Array.from({ length: 100 }, () => initial);
    server.answer = (request) => {
      const { functionCode, address, quantity, pdu } = request;
      if (functionCode === 6) registers[address] = quantity;
      if (functionCode === 16) {
        for (let index = 0; index < quantity; index += 1) registers[address + index] = pdu.readUInt16BE(6 + index * 2);
      }
      if (functionCode === 22) {
        const orMask = pdu.readUInt16BE(5);
        registers[address] = ((registers[address] ?? 0) & quantity) | (orMask & ~quantity & 0xffff);
      }
      if (functionCode === 23) {
        const count = pdu.readUInt16BE(7);
        for (let index = 0; index < count; index += 1) {
          registers[pdu.readUInt16BE(5) + index] = pdu.readUInt16BE(10 + index * 2);
        }
      }
      if (functionCode !== 3 && functionCode !== 23) return addresses(request);
      const answer = Buffer.alloc(2 + quantity * 2);
      answer.writeUInt8(functionCode, 0);
      answer.writeUInt8(quantity * 2, 1);
      for (let index = 0; index < quantity; index += 1)
        answer.writeUInt16BE(registers[address + index] ?? 0, 2 + index * 2);
      return { pdu: answer };
    };
    return registers;
  }

  it('writes a register and reads it back', async () => {
    const registers = memory();
    start(writable({ register: 'holding:3' }));
    const result = await (await ready()).write?.({ deviceId: 'meter' as never, point: 'point', value: 77 }, NEVER);
    expect(result).toEqual({ readBack: 77, quality: { level: 'good' } });
    expect(registers[3]).toBe(77);
    expect(server.requests.filter(({ functionCode }) => functionCode === 6)).toHaveLength(1);
  });

  it('writes several registers at once, in the byte order of the point', async () => {
    const registers = memory();
    start(writable({ register: 'holding:3', type: 'float32', byte_order: 'CDAB' }));
    const result = await (await ready()).write?.({ deviceId: 'meter' as never, point: 'point', value: 1.5 }, NEVER);
    expect(result?.readBack).toBe(1.5);
    expect(registers.slice(3, 5)).toEqual([0, 0x3fc0]);
  });

  it('writes and reads back in one exchange where that is wanted', async () => {
    const registers = memory();
    start(writable({ register: 'holding:3', type: 'float32', write_verification: 'read_write' }));
    const running = await ready();
    const result = await running.write?.({ deviceId: 'meter' as never, point: 'point', value: 1.5 }, NEVER);
    expect(result).toEqual({ readBack: 1.5, quality: { level: 'good' } });
    expect(registers.slice(3, 5)).toEqual([0x3fc0, 0]);
    const { answer } = server;
    // A device that holds something else is found out all the same.
    server.answer = (request) => (request.functionCode === 23 ? pdu('170400000000') : answer(request));
    registers.fill(0);
    const failure = await running
      .write?.({ deviceId: 'meter' as never, point: 'point', value: 2.5 }, NEVER)
      .catch((error: unknown) => error);
    expect(isGatewayError(failure, 'GW_WRITE_VERIFY')).toBe(true);
  });

  it('uses functions 15 and 16 only where the device wants it', async () => {
    memory();
    start(
      meter({
        force_multiple_writes: true,
        points: { point: { register: 'holding:3', writable: true }, relay: { register: 'coil:4', writable: true } },
      }),
    );
    const running = await ready();
    await running.write?.({ deviceId: 'meter' as never, point: 'point', value: 1 }, NEVER);
    await running.write?.({ deviceId: 'meter' as never, point: 'relay', value: true }, NEVER);
    const written = server.requests.map(({ functionCode }) => functionCode).filter((code) => code > 4);
    expect(written).toEqual([16, 15]);
  });

  it('changes one bit by mask write, and leaves the others', async () => {
    const registers = memory(0b1010);
    start(writable({ register: 'holding:3', bit: 0 }));
    const result = await (await ready()).write?.({ deviceId: 'meter' as never, point: 'point', value: true }, NEVER);
    expect(result?.readBack).toBe(true);
    expect(registers[3]).toBe(0b1011);
    expect(server.requests.some(({ functionCode }) => functionCode === 22)).toBe(true);
  });

  it('reads, changes and writes where the device has no mask write, without losing one of two', async () => {
    const registers = memory(0b1000);
    const { answer } = server;
    server.answer = (request) => (request.functionCode === 22 ? exception(request, 1) : answer(request));
    start(
      meter({
        points: {
          a: { register: 'holding:3', bit: 0, writable: true },
          b: { register: 'holding:3', bit: 1, writable: true },
        },
      }),
    );
    const running = await ready();
    await Promise.all(
      ['a', 'b'].map(async (point) => running.write?.({ deviceId: 'meter' as never, point, value: true }, NEVER)),
    );
    expect(registers[3]).toBe(0b1011);
    // The device is asked for function 22 once, and never again.
    expect(server.requests.filter(({ functionCode }) => functionCode === 22)).toHaveLength(1);
  });

  it('says when the device does not hold what was written', async () => {
    start(writable({ register: 'holding:3' }));
    const failure = await (
      await ready()
    )
      .write?.({ deviceId: 'meter' as never, point: 'point', value: 77 }, NEVER)
      .catch((error: unknown) => error);
    expect(isGatewayError(failure, 'GW_WRITE_VERIFY')).toBe(true);
    expect(String(failure)).toContain('holds 3');
  });

  it('goes before reads', async () => {
    // A bus that is never free: every poll takes longer than its period.
    server.answer = async (request) => {
      await new Promise((resolve) => setTimeout(resolve, 30));
      return addresses(request);
    };
    const points = Object.fromEntries(
      [0, 1, 2, 3].map((index) => [
        `p${index}`,
        { register: `holding:${index * 100}`, writable: true, write_verification: 'none' },
      ]),
    );
    start(
      { meter: { poll_interval_ms: 20, points }, other: { unit_id: 2, poll_interval_ms: 20, points } },
      { timeout_ms: 500, retries: 0 },
    );
    await waitFor(() => recording.batches.length >= 2);
    const before = server.requests.length;
    await adapter?.write?.({ deviceId: 'meter' as never, point: 'p0', value: 5 }, NEVER);
    const place = server.requests.findIndex(({ functionCode }) => functionCode === 6);
    // Behind the one request that was under way.
    expect(place - before).toBeLessThanOrEqual(1);
  });

  it('refuses what may not be written, and whom it cannot reach', async () => {
    start(meter());
    const running = await ready();
    const refusal = async (point: string): Promise<string> =>
      running.write?.({ deviceId: 'meter' as never, point, value: 1 }, NEVER).then(
        () => 'written',
        (error: unknown) => (isGatewayError(error) ? error.code : String(error)),
      ) ?? 'no write';
    expect(await refusal('voltage')).toBe('GW_WRITE_REFUSED');
    expect(await refusal('current')).toBe('GW_NOT_FOUND');
  });

  it('fails fast for a device that is offline', async () => {
    server.answer = () => undefined;
    start(writable({ register: 'holding:3' }));
    await waitFor(() => recording.state('meter') === 'offline');
    await waitFor(() => recording.exchanges.length >= 3);
    const failure = await adapter
      ?.write?.({ deviceId: 'meter' as never, point: 'point', value: 1 }, NEVER)
      .catch((error: unknown) => error);
    expect(isGatewayError(failure, 'GW_DEVICE_OFFLINE')).toBe(true);
    // It was not even asked.
    expect(server.requests.filter(({ functionCode }) => functionCode === 6)).toEqual([]);
  });

  it('is ended by its signal while it waits', async () => {
    start(writable({ register: 'holding:3' }), { timeout_ms: 1000, retries: 0 });
    const running = await ready();
    const stop = new AbortController();
    const write = { deviceId: 'meter' as never, point: 'point', value: 1 };
    server.answer = () => undefined;
    const held = running.write?.(write, NEVER).catch((error: unknown) => error);
    const waiting = running.write?.(write, stop.signal).catch((error: unknown) => error);
    stop.abort();
    expect(isGatewayError(await waiting, 'GW_ABORTED')).toBe(true);
    expect(isGatewayError(await held, 'GW_TIMEOUT')).toBe(true);
  });
});

describe('identification', () => {
  it('reads basic and regular objects over several answers', async () => {
    const pages: Readonly<Record<string, string>> = {
      // read code, object: conformity 2, more, next object, number of objects, objects.
      '1,0': '2b0e0182ff01020004' + Buffer.from('Acme').toString('hex') + '0103' + Buffer.from('X-1').toString('hex'),
      '1,1': '2b0e01820000010202' + Buffer.from('v2').toString('hex'),
      '2,0': '2b0e02820000010405' + Buffer.from('Meter').toString('hex'),
    };
    server.answer = (request) => {
      if (request.functionCode !== 43) return addresses(request);
      const page = pages[`${request.pdu[2]},${request.pdu[3]}`];
      return page === undefined ? exception(request, 2) : pdu(page);
    };
    start(meter());
    await waitFor(() => recording.state('meter') === 'good');
    expect(await adapter?.identify('meter', NEVER)).toEqual({
      vendor_name: 'Acme',
      product_code: 'X-1',
      revision: 'v2',
      product_name: 'Meter',
    });
  });

  it('ends with devices that never end', async () => {
    server.answer = (request) =>
      request.functionCode === 43 ? pdu('2b0e0101ff000100014100'.slice(0, 20)) : addresses(request);
    start(meter());
    await waitFor(() => recording.state('meter') === 'good');
    expect(await adapter?.identify('meter', NEVER)).toEqual({ vendor_name: 'A' });
  });

  it('says that a device has none', async () => {
    start(meter());
    await waitFor(() => recording.state('meter') === 'good');
    const failure = await adapter?.identify('meter', NEVER).catch((error: unknown) => error);
    expect(isGatewayError(failure, 'GW_MODBUS_EXCEPTION')).toBe(true);
  });
});

describe('frame log', () => {
  it('keeps the newest frames both ways, and nothing until asked', async () => {
    start(meter());
    await waitFor(() => recording.batches.length >= 2);
    expect(adapter?.frames('meter')).toEqual([]);
    adapter?.watchFrames('meter', true);
    await waitFor(() => (adapter?.frames('meter').length ?? 0) >= 4);
    const [first, second] = adapter?.frames('meter').slice(-2) ?? [];
    expect(new Set([first?.direction, second?.direction])).toEqual(new Set(['received', 'sent']));
    expect(first?.hex).toMatch(/^[0-9a-f]{4}0000/);
  });
});
