import { expect, it } from 'vitest';
import { checkMqtt } from '../../../../modules/mqtt/check-config.ts';
import { type CommandConfig, mqttConfig } from '../../../../modules/mqtt/config.ts';
import { createConfiguredDialect } from '../../../../modules/mqtt/configured-dialect.ts';
import type { Device } from '../../../../modules/mqtt/devices.ts';
import { Writer } from '../../../../modules/mqtt/writer.ts';
import { type DeviceId, parseDeviceId } from '../../../../src/core/device.ts';
import type { PointValue } from '../../../../src/core/reading.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';

const PUMP = parseDeviceId('pump');
const NEVER = new AbortController().signal;

/** A pump that says all of `values` as soon as it is written to. */
function writeValue(wanted: PointValue, values: readonly (PointValue | undefined)[]) {
  const writer = new Writer(new SystemClock(), () => {
    for (const value of values) writer.reading(PUMP, 'limit', value);
    writer.reading(PUMP, 'flow', 42);
    writer.reading('fan', 'limit', 42);
    return Promise.resolve();
  });
  const planWrite = () => ({ publish: [{ topic: 't', payload: Buffer.of() }], confirmedBy: 'reading', timeoutMs: 50 });
  const device = { state: 'good', info: { points: [] }, dialect: { planWrite } } as unknown as Device;
  return writer.write(device, { deviceId: PUMP, point: 'limit', value: wanted }, NEVER);
}

it('takes the value that was written for the proof, and an older one for none', async () => {
  expect(await writeValue(42, [10, 42])).toEqual({ readBack: 42, quality: { level: 'good' } });
});

it.each([
  [0.1, Math.fround(0.1)],
  [2n ** 60n, '1152921504606846976'],
  [true, true],
])('takes %s for proved by %s', async (wanted, value) => {
  expect(await writeValue(wanted, [value])).toEqual({ readBack: value, quality: { level: 'good' } });
});

it.each([
  [42, [10, 40], '40'],
  [16_777_217, [16_777_216], '16777216'],
  [true, [false], 'false'],
  [42, [undefined], 'no good value'],
])('fails to write %s when the device says %j until the time is over', async (wanted, values, readBack) => {
  const details = { reason: 'verify', readBack };
  await expect(writeValue(wanted, values)).rejects.toMatchObject({ code: 'GW_WRITE_VERIFY', details });
});

it('says that nothing was heard', async () => {
  await expect(writeValue(42, [])).rejects.toMatchObject({ code: 'GW_TIMEOUT' });
});

it.each([
  ['running', 'ON', true],
  ['running', 'off', false],
  ['running', 1, true],
  ['limit', '42.0', 42],
])('takes %s = %j for proved by %j, as the point has it', async (point, value, reading) => {
  const dialect = createConfiguredDialect(configOf({ response_topic: undefined }));
  const writer: Writer = new Writer(new SystemClock(), () => Promise.resolve(writer.reading(PUMP, point, reading)));
  const device = { state: 'good', info: { points: [] }, dialect } as unknown as Device;
  const written = writer.write(device, { deviceId: PUMP, point, value }, NEVER);
  await expect(written).resolves.toEqual({ readBack: reading, quality: { level: 'good' } });
});

function configOf(command: Partial<CommandConfig>) {
  return mqttConfig.parse({
    listen: {},
    anonymous: 'all',
    topics: [
      {
        topic: 'pumps/{device_id}/state',
        points: {
          limit: { pointer: '/limit', scale: 0.5, writable: true },
          running: { pointer: '/running', type: 'boolean', writable: true },
        },
      },
    ],
    command: { topic: 'pumps/{device_id}/set', response_topic: 'pumps/{device_id}/done', timeout_ms: 100, ...command },
  });
}

/** A pump that answers every write with `answers`, and says besides that all values are the ones written. */
function writeAnswered(
  command: Partial<CommandConfig>,
  answers: readonly string[],
  [point, value]: readonly [string, PointValue] = ['limit', 42],
) {
  const dialect = createConfiguredDialect(configOf(command));
  const writer = new Writer(new SystemClock(), () => {
    writer.reading(PUMP, point, value);
    for (const text of answers) {
      const arrival = { topic: 'pumps/pump/done', payload: Buffer.from(text), replayed: false };
      for (const { answer } of dialect.understand(arrival)?.told ?? []) writer.answer(PUMP, answer ?? '');
    }
    writer.answer('fan', '84');
    return Promise.resolve();
  });
  const device = { state: 'good', info: { points: [] }, dialect } as unknown as Device;
  return writer.write(device, { deviceId: PUMP, point, value }, NEVER);
}

it('takes the value of an answer for the proof when it is the one written', async () => {
  const good = { level: 'good' };
  expect(await writeAnswered({ response_pointer: '/set/limit' }, ['{"set":{"limit":84}}'])).toEqual({
    readBack: 42,
    quality: good,
  });
  expect(await writeAnswered({}, ['80', '84'])).toEqual({ readBack: 42, quality: good });
  expect(await writeAnswered({}, ['ON'], ['running', true])).toEqual({ readBack: true, quality: good });
  expect(await writeAnswered({ response: '^OK' }, ['BUSY', 'OK 84'])).toEqual({ quality: good });
});

it.each([
  ['another value', { response_pointer: '/limit' }, '{"limit":20}'],
  ['no value at the pointer', { response_pointer: '/limit' }, '{"error":"range"}'],
  ['a text at the pointer', { response_pointer: '/limit' }, '{"limit":"error: range"}'],
  ['words', {}, 'error: range'],
  ['what the pattern does not take', { response: '^OK' }, 'NOT OK'],
  ['what no pattern takes', { response: '^OK', refusal: '^ERR' }, 'NOT OK'],
])('fails when the answer is %s, and tells it', async (_what, command, answer) => {
  await expect(writeAnswered(command, [answer])).rejects.toMatchObject({
    code: 'GW_WRITE_VERIFY',
    details: { reason: 'verify', readBack: JSON.stringify(answer) },
  });
});

it('fails at once when the device refuses, whatever else the answer says', async () => {
  const command = { timeout_ms: 60_000, refusal: '"error"', response_pointer: '/limit' };
  const refusal = '{"limit":84,"error":"range"}';
  await expect(writeAnswered(command, [refusal, '{"limit":84}'])).rejects.toMatchObject({
    code: 'GW_MQTT_ANSWER',
    message: `"pump" refused the write to "limit": it answered ${JSON.stringify(refusal)}.`,
    details: { reason: 'refused' },
  });
});

it('needs patterns that compile, a topic for them, and one thing that confirms', () => {
  const faults = (command: Partial<CommandConfig>) =>
    checkMqtt(configOf(command), { gatewayId: 'g' }).map(({ path, message }) => `${path.join('.')} ${message}`);
  expect(faults({ response: '^OK', refusal: '^ERR' })).toEqual([]);
  expect(faults({ refusal: '(' })).toEqual([expect.stringMatching(/^command.refusal is not a pattern of RE2/)]);
  expect(faults({ response: 'OK', response_pointer: '/a' })).toEqual([
    'command.response_pointer cannot stand beside `response`: the value confirms the write, or the pattern does',
  ]);
  expect(faults({ response_topic: undefined, refusal: 'no' })).toEqual([
    'command.refusal needs `response_topic`: without it no response is awaited',
  ]);
});

it('says before it sends anything what cannot be written', () => {
  const writer = new Writer(new SystemClock(), () => Promise.reject(new Error('nothing is to be sent')));
  const dialect = createConfiguredDialect(configOf({}));
  const device = { state: 'good', info: { points: dialect.points }, dialect } as unknown as Device;
  const check =
    (point: string, value: PointValue, deviceId = PUMP, state = 'good') =>
    () =>
      writer.check({ ...device, state } as Device, { deviceId, point, value });
  expect(check('limit', 42)).not.toThrow();
  expect(check('limit', 'much')).toThrow('takes a number');
  expect(check('running', 'up')).toThrow('takes true or false');
  expect(check('speed', 1)).toThrow('has no point "speed"');
  expect(check('limit', 42, 'pump/#' as DeviceId)).toThrow('"pumps/pump/#/set" is no topic');
  // What it takes may have gone with it.
  expect(check('speed', 1, PUMP, 'offline')).not.toThrow();
});
