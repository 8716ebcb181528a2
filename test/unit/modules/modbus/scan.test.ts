// How far the look at a device is said to be, how long it takes yet, and what is known when it is stopped in the middle.

import { describe, expect, it } from 'vitest';
import { exceptionFault } from '../../../../modules/modbus/faults.ts';
import {
  type DeviceProgress,
  type DeviceScan,
  readsPerDevice,
  scanDevice,
} from '../../../../modules/modbus/scan-device.ts';
import { scanOptions } from '../../../../modules/modbus/scan-options.ts';
import { ScanProgress } from '../../../../modules/modbus/scan-progress.ts';
import type { ModbusRequest } from '../../../../modules/modbus/pdu.ts';
import type { ScanEvent, ScanFinding } from '../../../../src/core/scan.ts';
import { silentLogger } from '../../../../src/observe/logger.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const READ_MS = 17;
/** As a customer had it: few of the addresses 0 to 999. */
const LAST_READABLE: Readonly<Record<number, number>> = { 1: 15, 2: 15, 3: 119, 4: 27 };
const options = scanOptions.parse({ host: 'x', unit_ids: '3' });

/** A device of which each read takes as long; function 43 and what it does not have it refuses. */
function scanOf(clock: ManualClock, { stopAtRead = Number.POSITIVE_INFINITY } = {}) {
  const stop = new AbortController();
  const events: ScanEvent[] = [];
  const progress = new ScanProgress(
    {
      clock,
      log: silentLogger,
      signal: stop.signal,
      report: (event) => events.push(event),
      running: [],
      profiles: () => [],
    },
    1,
    600,
  );
  let reads = 0;
  const answer = (request: ModbusRequest): Promise<Uint8Array> => {
    clock.advance(READ_MS);
    if ((reads += 1) >= stopAtRead) stop.abort();
    const { functionCode } = request;
    if (!('quantity' in request) || request.address + request.quantity - 1 > (LAST_READABLE[functionCode] ?? -1)) {
      return Promise.reject(exceptionFault('quantity' in request ? 2 : 1));
    }
    return Promise.resolve(Buffer.alloc(functionCode <= 2 ? Math.ceil(request.quantity / 8) : 2 * request.quantity));
  };
  const partials: ScanFinding[] = [];
  const scan: DeviceScan = {
    line: {
      text: 'bus',
      transport: undefined,
      hasUnitZero: true,
      strayBytes: 0,
      exchange: (_unitId, request) => answer(request),
      close: () => Promise.resolve(),
    },
    unitId: 3,
    exchange: (request) => progress.timed(() => answer(request)),
    options,
    signal: stop.signal,
    profiles: [],
    onProgress: (device: DeviceProgress) => progress.tell(device.text, device),
    onPartial: (finding) => partials.push(finding),
    onNote: () => expect.unreachable(),
  };
  return { scan, events, partials, reads: () => reads };
}

describe('a device that has few of the addresses', () => {
  it('counts into progress and the remaining time, which the rest never exceeds', async () => {
    const clock = new ManualClock();
    const startMs = clock.monotonicMs();
    const { scan, events, partials, reads } = scanOf(clock);
    const told: { atMs: number; remainingMs: number; doneShare: number }[] = [];
    events.push = (event) => {
      if (event.kind === 'progress') told.push({ ...event, atMs: clock.monotonicMs() });
      return 0;
    };
    const finding = await scanDevice(scan);
    const endMs = clock.monotonicMs();
    expect(finding.facts).toMatchObject({
      'readable holding': '0-119',
      'readable input': '0-27',
      'readable coil': '0-15',
      'readable discrete': '0-15',
    });
    expect(reads()).toBeGreaterThan(readsPerDevice(options).most * 0.8);
    expect(reads()).toBeLessThanOrEqual(readsPerDevice(options).most);
    expect(told.length).toBeGreaterThan((endMs - startMs) / 600);
    const measured = told.slice(1);
    for (const { atMs, remainingMs } of measured) {
      expect(remainingMs).toBeGreaterThanOrEqual(endMs - atMs);
      expect(remainingMs).toBeLessThan((endMs - atMs) * 1.25 + 1000);
    }
    const shares = told.map(({ doneShare }) => doneShare);
    expect(shares).toEqual([...shares].sort((a, b) => a - b));
    // In each tenth of the time something moves.
    expect(new Set(shares.map((share) => Math.floor(share * 10))).size).toBeGreaterThanOrEqual(10);
    expect(partials.at(-1)).toEqual(finding);
  });

  it('is known as far as it was looked at when it is stopped', async () => {
    const { scan, partials } = scanOf(new ManualClock(), { stopAtRead: 2500 });
    await expect(scanDevice(scan)).rejects.toMatchObject({ code: 'GW_ABORTED' });
    expect(partials[0]).toMatchObject({ place: 'bus, unit 3', facts: {} });
    // In the middle of the second table.
    expect(partials.at(-1)?.facts).toEqual({ 'readable holding': '0-119', 'readable input': '0-27' });
    expect(partials.at(-1)?.suggestion).toContain("holding_0: { register: 'holding:0' }");
  });
});
