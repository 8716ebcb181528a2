import { expect, it } from 'vitest';
import type { Device } from '../../../../modules/mqtt/devices.ts';
import { Writer } from '../../../../modules/mqtt/writer.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';

const PUMP = parseDeviceId('pump');
const WRITE = { deviceId: PUMP, point: 'limit', value: 42 };
const NEVER = new AbortController().signal;

/** A pump that says all of `values` as soon as it is written to. */
function write(...values: (number | undefined)[]) {
  const writer = new Writer(new SystemClock(), () => {
    for (const value of values) writer.reading(PUMP, 'limit', value);
    writer.reading(PUMP, 'flow', 42);
    writer.reading('fan', 'limit', 42);
    return Promise.resolve();
  });
  const planWrite = () => ({ publish: [{ topic: 't', payload: Buffer.of() }], confirmedBy: 'reading', timeoutMs: 50 });
  const device = { state: 'good', info: { points: [] }, dialect: { planWrite } } as unknown as Device;
  return writer.write(device, WRITE, NEVER);
}

it('takes the value that was written for the proof, and an older one for none', async () => {
  expect(await write(10, 42)).toEqual({ readBack: 42, quality: { level: 'good' } });
});

it('tells what the device says instead when the time is over', async () => {
  expect(await write(10, 40)).toEqual({ readBack: 40, quality: { level: 'good' } });
  expect(await write(undefined)).toEqual({ quality: { level: 'bad', reason: 'no_value' } });
  await expect(write()).rejects.toMatchObject({ code: 'GW_TIMEOUT' });
});
