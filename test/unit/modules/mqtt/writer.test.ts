import { expect, it } from 'vitest';
import type { Device } from '../../../../modules/mqtt/devices.ts';
import { Writer } from '../../../../modules/mqtt/writer.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
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
