// What was captured on a wire gives the same readings again, without the device.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ModbusAdapter } from '../../../../modules/modbus/adapter.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { readCapture } from '../../../../src/wire/capture.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';
import { waitFor } from '../../../support/wait.ts';
import {
  adapterFor,
  addresses,
  exception,
  NEVER,
  record,
  serve,
  type Recording,
  type ScriptedServer,
} from './harness.ts';

const HOST = '127.0.67.1';
const points = {
  low: { register: 'holding:10' },
  high: { register: 'input:300', type: 'uint32' },
  refused: { register: 'holding:500', writable: true },
};

let directory: TempDir;
let server: ScriptedServer;
let adapter: ModbusAdapter | undefined;

beforeEach(async () => {
  directory = createTempDir('replay');
  server = await serve(HOST);
  server.answer = (request) => (request.address === 500 ? exception(request, 2) : addresses(request));
});

afterEach(async () => {
  await adapter?.stop(NEVER);
  adapter = undefined;
  await server.close();
  directory.remove();
});

function run(fields: object, port = server.port): Recording {
  const recording = record({ captureDirectory: directory.path });
  const device = { poll_interval_ms: 50, max_gap_registers: 0, points, ...fields };
  const transport = { kind: 'tcp', host: HOST, port };
  adapter = adapterFor(
    { transport, timeout_ms: 300, retries: 0, devices: { meter: device, other: { ...device, capture: undefined } } },
    recording,
  );
  void adapter.start(NEVER);
  return recording;
}

describe('capture and replay', () => {
  it('give the same readings, exceptions included', async () => {
    const live = run({ capture: { file: 'meter.jsonl' } });
    await waitFor(() => live.batches.filter(({ deviceId }) => deviceId === 'other').length >= 2);
    await adapter?.stop(NEVER);
    const records = await readCapture(directory.file('meter.jsonl'));
    // Of this device alone, although another one shares the connection.
    const requests = server.requests.filter(({ address }) => address === 10).length;
    expect(
      records.filter(({ direction, bytes }) => direction === 'tx' && bytes.readUInt16BE(8) === 10).length,
    ).toBeLessThan(requests);

    const replayed = run({ replay: { file: 'meter.jsonl' } }, 9);
    await waitFor(() => replayed.batches.filter(({ deviceId }) => deviceId === 'meter').length >= 3);
    for (const name of ['low', 'high', 'refused']) {
      expect([replayed.quality('meter', name), replayed.value('meter', name)]).toEqual([
        live.quality('meter', name),
        live.value('meter', name),
      ]);
    }
    expect(replayed.value('meter', 'high')).toBe(300 * 65_536 + 301);
    expect(replayed.quality('meter', 'refused')).toBe('bad:exception_2');
  });

  it('answers nothing that the capture was never asked', async () => {
    const live = run({ capture: { file: 'meter.jsonl' } });
    await waitFor(() => live.batches.length >= 2);
    await adapter?.stop(NEVER);
    const replayed = run({ replay: { file: 'meter.jsonl' }, points: { new: { register: 'holding:11' } } });
    await waitFor(() => replayed.quality('meter', 'new') === 'bad:timeout');
  });

  it('refuses a write, and says that it is a capture', async () => {
    const live = run({ capture: { file: 'meter.jsonl' } });
    await waitFor(() => live.batches.length >= 2);
    await adapter?.stop(NEVER);
    const replayed = run({ replay: { file: 'meter.jsonl' } });
    await waitFor(() => replayed.batches.length > 0);
    const write = { deviceId: parseDeviceId('meter'), point: 'refused', value: 1 };
    await expect(adapter?.write?.(write, NEVER)).rejects.toMatchObject({
      code: 'GW_WRITE_REFUSED',
      message: '"meter" is a capture that is played; nothing can be written to it.',
    });
  });

  it('shows a capture that is absent as a device that cannot be reached, and says which file', async () => {
    const replayed = run({ replay: { file: 'absent.jsonl' } });
    await waitFor(() => replayed.quality('meter', 'low') === 'bad:disconnected');
    expect(adapter?.health().reason).toContain(directory.file('absent.jsonl'));
  });
});
