import { beforeEach, describe, expect, it } from 'vitest';
import { UNCONFIRMED, type Adapter, type PointWrite, type WriteResult } from '../../../../src/core/adapter.ts';
import type { CommandOptions, DeviceCommand } from '../../../../src/core/command.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { GatewayError } from '../../../../src/core/errors.ts';
import { LIMITS } from '../../../../src/core/limits.ts';
import { GOOD, type PointValue } from '../../../../src/core/reading.ts';
import type { ClockQuality } from '../../../../src/core/time.ts';
import type { StateSpace } from '../../../../src/core/state.ts';
import { createDeviceRegistry, NO_ADAPTER, type DeviceRegistry } from '../../../../src/devices/device-registry.ts';
import { createDispatcher, type Dispatcher } from '../../../../src/devices/dispatcher.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { memorySpace } from '../../../support/state.ts';
import { waitFor } from '../../../support/wait.ts';

const PUMP = parseDeviceId('pump');
const DEAD = parseDeviceId('dead');
const point = (name: string, fields = {}) => ({ name, address: name, writable: true, ...fields });

let clock: ManualClock;
let registry: DeviceRegistry;
let commands: StateSpace;
let audit: StateSpace;
let writeRates: StateSpace;
let dispatcher: Dispatcher;
let written: PointWrite[];
let events: string[];
/** Of those about points, with their fields. */
let told: (readonly [name: string, fields: Readonly<Record<string, unknown>>])[];
/** Whether the adapter is not there yet, or was taken away to be made anew. */
let isStarting: boolean;
/** What the device does with a write. */
let device: (write: PointWrite, signal: AbortSignal) => Promise<WriteResult>;

function build(): Dispatcher {
  const adapter: Adapter = {
    devices: () => [],
    start: () => Promise.resolve(),
    stop: () => Promise.resolve(),
    health: () => ({ status: 'running' }),
    checkWrite: ({ point: name, value }) => {
      if (name === 'relay' && value === 70_000) throw new GatewayError('GW_WRITE_REFUSED', 'It takes 0 to 65535.');
    },
    write: (write, signal) => {
      written.push(write);
      return device(write, signal);
    },
    invoke: ({ payload }) => Promise.resolve({ payload: { got: payload } }),
  };
  const telemetry = {
    emit: (name: string, fields: Readonly<Record<string, unknown>>) => {
      events.push(name);
      if (name.startsWith('point_')) told.push([name, fields]);
    },
  };
  return createDispatcher({
    registry,
    adapterOf: () => (isStarting ? undefined : adapter),
    clock,
    telemetry,
    commands,
    audit,
    writeRates,
  });
}

const write = (values: Record<string, PointValue>, options: Partial<CommandOptions> = {}, deviceId: string = PUMP) =>
  dispatcher.run({ kind: 'write', deviceId, values }, { actor: 'test', ...options });

beforeEach(() => {
  clock = new ManualClock();
  isStarting = false;
  written = [];
  events = [];
  told = [];
  commands = memorySpace();
  audit = memorySpace();
  writeRates = memorySpace();
  device = ({ value }) => Promise.resolve({ readBack: value, quality: GOOD });
  registry = createDeviceRegistry(clock, { emit: () => {} });
  const points = [
    point('relay'),
    point('level', { writeRules: { min: 0, max: 100 } }),
    point('mode', { writeRules: { allowed: [1, 'auto', false] } }),
    point('serial', { writeRules: { min: 2n ** 53n + 1n, max: 2n ** 64n - 2n } }),
    point('key', { writeRules: { allowed: ['9007199254740993', '7'] } }),
    point('valve', { writeRules: { minIntervalMs: 1000 } }),
    point('counter', { writable: false }),
  ];
  registry.setAdapter('bus', [
    { deviceId: PUMP, points, actions: ['reset'] },
    { deviceId: DEAD, points: [point('relay')] },
  ]);
  registry.report(PUMP, 'good');
  registry.report(DEAD, 'good');
  dispatcher = build();
});

describe('dispatcher', () => {
  it('writes several points in order and answers what the device holds', async () => {
    expect(await write({ relay: true, level: 50 })).toEqual({ status: 200, values: { relay: true, level: 50 } });
    expect(written.map(({ point: name }) => name)).toEqual(['relay', 'level']);
  });

  it('says what is not confirmed', async () => {
    device = () => Promise.resolve(UNCONFIRMED);
    expect(await write({ relay: true })).toEqual({
      status: 200,
      values: {},
      quality: { relay: 'uncertain:unconfirmed' },
    });
  });

  it('takes the word of a device that confirms without telling its value, whoever asks', async () => {
    device = () => Promise.resolve({ quality: GOOD });
    expect(await write({ level: 50 })).toEqual({ status: 200, values: { level: 50 } });
    const result = await dispatcher.write({ deviceId: PUMP, point: 'level', value: 51 }, { actor: 'test' });
    expect(result).toEqual({ readBack: 51, quality: GOOD });
  });

  it.each<[string, Record<string, PointValue>, number]>([
    ['a point that is not there', { nope: 1 }, 404],
    ['a point that is not writable', { counter: 1 }, 400],
    ['below the least', { level: -0.1 }, 400],
    ['above the most', { level: 100.1 }, 400],
    ['above the most as text', { level: '101' }, 400],
    ['no number where limits are for numbers', { level: true }, 400],
    ['a value that is not allowed', { mode: 2 }, 400],
    ['a value of another type', { mode: '1x' }, 400],
    ['below the least by one that a double does not see', { serial: 2n ** 53n }, 400],
    ['above the most by one that a double does not see', { serial: '18446744073709551615' }, 400],
    ['beside what is allowed by one that a double does not see', { key: 2n ** 53n }, 400],
    ['a number where a text of digits is allowed', { key: 7 }, 400],
    ['one good and one bad point', { relay: true, level: 500 }, 400],
    ['one that the adapter cannot write behind a good one', { level: 5, relay: 70_000 }, 400],
  ])('refuses %s and writes nothing', async (_what, values, status) => {
    expect(await write(values)).toMatchObject({ status, reason: expect.any(String) as string });
    expect(written).toEqual([]);
  });

  it.each<[Record<string, PointValue>]>([
    [{ level: 0 }],
    [{ level: 100n }],
    [{ mode: 'auto' }],
    [{ mode: false }],
    [{ mode: '1' }],
    [{ serial: 2n ** 53n + 1n }],
    [{ serial: '18446744073709551614' }],
    [{ key: 2n ** 53n + 1n }],
    [{ key: '7' }],
  ])('takes %o', async (values) => {
    expect((await write(values)).status).toBe(200);
  });

  it('does not write a point more often than it may be', async () => {
    expect((await write({ valve: 1 })).status).toBe(200);
    expect((await write({ valve: 2 }, { id: 'x' })).status).toBe(429);
    clock.advance(1000);
    // It was not taken, so the same id is new.
    expect((await write({ valve: 2 }, { id: 'x' })).status).toBe(200);
    expect(written).toHaveLength(2);
  });

  it('keeps the time between writes of a point over a restart', async () => {
    expect((await write({ valve: 1 })).status).toBe(200);
    clock.advance(999);
    dispatcher = build();
    expect((await write({ valve: 2 })).status).toBe(429);
    clock.advance(1);
    expect((await write({ valve: 2 })).status).toBe(200);
  });

  it('writes to a device that answers, though one of its points cannot be read', async () => {
    registry.report(PUMP, 'degraded', 'exception_2');
    expect((await write({ relay: true })).status).toBe(200);
  });

  it('delivers nothing to a device that does not answer', async () => {
    for (const state of ['unknown', 'offline'] as const) {
      registry.report(PUMP, state);
      expect((await write({ relay: true }, { id: state })).status).toBe(504);
      registry.report(PUMP, 'good');
      // It was answered, so it is never done.
      expect((await write({ relay: true }, { id: state })).status).toBe(504);
    }
    expect(written).toEqual([]);
  });

  it('answers with the own code of a device, and with what was written before', async () => {
    device = ({ point: name, value }) => {
      if (name === 'relay') return Promise.resolve({ readBack: value, quality: GOOD });
      throw new GatewayError('GW_MODBUS_EXCEPTION', 'No.', { details: { reason: 'exception_2' } });
    };
    const answer = { status: 502, code: 'exception_2', reason: 'No.', values: { relay: true } };
    expect(await write({ relay: true, level: 1 }, { id: '1' })).toEqual(answer);
    expect(await write({ relay: true, level: 1 }, { id: '1' })).toEqual(answer);
    expect(written).toHaveLength(2);
  });

  it('does a command with an id once: at once, later, after a restart, for 24 h', async () => {
    const answers = await Promise.all([1, 2, 3].map((value) => write({ level: value }, { id: 'a' })));
    expect(answers).toEqual(Array.from({ length: 3 }, () => ({ status: 200, values: { level: 1 } })));
    dispatcher = build();
    clock.advance(24 * 3_600_000);
    expect(await write({ level: 9 }, { id: 'a' })).toEqual({ status: 200, values: { level: 1 } });
    expect(written).toHaveLength(1);
    expect((await write({ relay: true }, { id: 'a' }, DEAD)).status).toBe(200);
    clock.advance(1);
    expect(await write({ level: 9 }, { id: 'a' })).toEqual({ status: 200, values: { level: 9 } });
  });

  it('does not do again what was begun when the gateway ended', async () => {
    device = () => new Promise(() => {});
    void write({ relay: true }, { id: 'a' });
    await waitFor(() => written.length === 1);
    dispatcher = build();
    expect(await write({ relay: true }, { id: 'a' })).toMatchObject({ status: 500, code: 'GW_COMMAND_UNKNOWN' });
    expect(written).toHaveLength(1);
  });

  it('has in its audit what a device was told when the gateway ended', async () => {
    device = () => new Promise(() => {});
    void write({ relay: true }, { id: 'a' });
    dispatcher.write({ deviceId: DEAD, point: 'relay', value: false }, { actor: 'cli:root' }).catch(() => {});
    await waitFor(() => written.length === 2);
    // Nobody is told of what is under way as if it had ended.
    expect(await dispatcher.audit({ limit: 10 })).toEqual([]);
    dispatcher = build();
    const records = await dispatcher.audit({ limit: 10 });
    expect(records.toSorted((a, b) => a.device.localeCompare(b.device))).toMatchObject([
      { device: DEAD, actor: 'cli:root', answer: { status: 500, code: 'GW_COMMAND_UNKNOWN' } },
      { device: PUMP, id: 'a', request: '{"relay":true}', answer: { code: 'GW_COMMAND_UNKNOWN' } },
    ]);
  });

  it('does nothing whose mark cannot be stored', async () => {
    commands = { ...commands, write: () => Promise.reject(new GatewayError('GW_STORE_WRITE', 'Disk.')) };
    dispatcher = build();
    expect((await write({ relay: true }, { id: 'a' })).status).toBe(503);
    expect(written).toEqual([]);
    expect((await write({ relay: true })).status).toBe(200);
  });

  it('refuses what has expired, and whatever expires while the time is unknown', async () => {
    const expiresAtMs = clock.wallMs() + 1000;
    clock.quality = () => 'restored';
    expect((await write({ relay: true }, { expiresAtMs })).status).toBe(408);
    clock.quality = () => 'synced';
    expect((await write({ relay: true }, { expiresAtMs })).status).toBe(200);
    clock.advance(1000);
    expect((await write({ relay: true }, { expiresAtMs })).status).toBe(408);
    expect(written).toHaveLength(1);
  });

  it('waits for what the time service says before it refuses what came at the start', async () => {
    const answered = Promise.withResolvers<void>();
    let quality: ClockQuality = 'restored';
    clock.quality = () => quality;
    Object.assign(clock, { settling: () => answered.promise });
    const early = write({ relay: true }, { expiresAtMs: clock.wallMs() + 1000 });
    expect((await write({ relay: false })).status).toBe(200);
    quality = 'synced';
    answered.resolve();
    expect((await early).status).toBe(200);
  });

  it('does not begin what waited past its deadline, and delays no other device', async () => {
    let release: (result: WriteResult) => void = () => {};
    device = ({ deviceId }) =>
      deviceId === DEAD ? new Promise((resolve) => (release = resolve)) : Promise.resolve({ quality: GOOD });
    const first = write({ relay: true }, { timeoutMs: 60_000 }, DEAD);
    await waitFor(() => written.length === 1);
    const second = write({ relay: false }, { timeoutMs: 500 }, DEAD);
    const third = write({ relay: false }, { expiresAtMs: clock.wallMs() + 500 }, DEAD);
    expect((await write({ relay: true })).status).toBe(200);
    clock.advance(501);
    release({ quality: GOOD });
    expect((await first).status).toBe(200);
    expect([(await second).status, (await third).status]).toEqual([408, 408]);
    expect(written).toHaveLength(2);
  });

  it('answers 504 when the device takes too long, and tells the adapter to stop', async () => {
    let told = false;
    device = (_write, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          told = true;
          reject(new GatewayError('GW_ABORTED', 'Stopped.'));
        });
      });
    const answer = write({ relay: true }, { timeoutMs: 100 });
    await waitFor(() => written.length === 1);
    clock.advance(100);
    expect(await answer).toMatchObject({ status: 504, code: 'GW_TIMEOUT' });
    expect(told).toBe(true);
  });

  it('says what is not known of a command that the adapter ends, and what is', async () => {
    device = () => Promise.reject(new GatewayError('GW_ABORTED', 'The line stops.'));
    const unsure = await write({ relay: true });
    expect(unsure).toMatchObject({ status: 500, code: 'GW_ABORTED' });
    expect(unsure.reason).toContain('may have done it all the same');
    device = () => Promise.reject(new GatewayError('GW_TIMEOUT', 'No answer within 1000 ms.'));
    expect(await write({ relay: true })).toMatchObject({
      status: 504,
      reason: 'No answer within 1000 ms. It may have done it all the same: read it before you try again.',
    });
    const notSent = new GatewayError('GW_ABORTED', 'Nothing was sent.', { details: { reason: 'not_sent' } });
    device = () => Promise.reject(notSent);
    expect(await write({ relay: true })).toMatchObject({ status: 500, reason: 'Nothing was sent.' });
    device = (_write, signal) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(notSent)));
    const late = write({ relay: true }, { timeoutMs: 100 });
    await waitFor(() => written.length === 4);
    clock.advance(100);
    expect(await late).toMatchObject({ status: 408, reason: 'Nothing was sent.' });
  });

  it('takes nothing while the adapter is made anew, and takes the same command once it is there', async () => {
    let release: () => void = () => {};
    device = () => new Promise((resolve) => (release = () => resolve({ quality: GOOD })));
    const first = write({ relay: true }, { id: 'first' });
    await waitFor(() => written.length === 1);
    const second = write({ relay: false }, { id: 'second' });
    isStarting = true;
    release();
    expect((await first).status).toBe(200);
    expect(await second).toMatchObject({ status: 503, code: 'GW_ADAPTER_STARTING' });
    registry.reserve('other', ['soon']);
    expect((await write({ relay: true }, {}, 'soon')).status).toBe(503);
    expect((await write({ relay: true }, {}, 'never')).status).toBe(404);
    registry.reserve(NO_ADAPTER, ['gateway']);
    expect((await write({ relay: true }, {}, 'gateway')).status).toBe(404);
    isStarting = false;
    device = () => Promise.resolve({ quality: GOOD });
    expect((await write({ relay: false }, { id: 'second' })).status).toBe(200);
  });

  it('tells of several values which were written and which were not', async () => {
    await write({ relay: true, level: 500 });
    expect(told).toEqual([
      ['point_write_failed', expect.objectContaining({ point: 'relay, level', value: 'true, 500', status: 400 })],
    ]);
    told = [];
    device = ({ point: name, value }) =>
      name === 'relay'
        ? Promise.resolve({ readBack: value, quality: GOOD })
        : Promise.reject(new GatewayError('GW_MODBUS_EXCEPTION', 'No.'));
    await write({ relay: true, level: 5, mode: 1 });
    expect(told).toEqual([
      ['point_written', expect.objectContaining({ point: 'relay', readBack: 'true' })],
      ['point_write_failed', expect.objectContaining({ point: 'level, mode', status: 502, error: 'No.' })],
    ]);
  });

  it('bounds what waits for one device', async () => {
    device = () => new Promise(() => {});
    const answers: number[] = [];
    for (let count = 0; count < LIMITS.device_waiting_commands + 3; count += 1) {
      void write({ relay: true }, {}, DEAD).then(({ status }) => answers.push(status));
    }
    await waitFor(() => answers.length === 3);
    expect(answers).toEqual([429, 429, 429]);
    expect(dispatcher.waiting).toBe(LIMITS.device_waiting_commands);
  });

  it('invokes actions that the device has', async () => {
    const action = (name: string): DeviceCommand => ({ kind: 'action', deviceId: PUMP, action: name, payload: 7 });
    expect(await dispatcher.run(action('reset'), { actor: 'test' })).toEqual({ status: 200, payload: { got: 7 } });
    expect((await dispatcher.run(action('explode'), { actor: 'test' })).status).toBe(404);
  });

  it('writes each value of a desired patch by itself', async () => {
    const answers = await dispatcher.applyDesired(PUMP, { level: 500, relay: true, nope: 1 }, { actor: 'test' });
    expect(Object.entries(answers).map(([name, { status }]) => [name, status])).toEqual([
      ['level', 400],
      ['relay', 200],
      ['nope', 404],
    ]);
  });

  it('keeps an audit, the newest first', async () => {
    await write({ relay: true }, { id: 'a', actor: 'cli:root' });
    await write({ level: 500 });
    await write({ nope: 1 });
    const [refused, done, ...more] = await dispatcher.audit({ limit: 10 });
    expect(more).toEqual([]);
    expect(refused).toMatchObject({ number: 2, command: 'write', request: '{"level":500}', answer: { status: 400 } });
    expect(done).toMatchObject({ number: 1, actor: 'cli:root', device: 'pump', id: 'a', answer: { status: 200 } });
    expect(await dispatcher.audit({ limit: 10, before: 2 })).toEqual([done]);
  });
});
