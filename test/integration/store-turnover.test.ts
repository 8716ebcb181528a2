// The outbox at a limit that takes the oldest, turned over several times at full speed with nobody taking anything: what it
// drops comes back as it goes, the file system is never filled, and what comes in goes on being stored.

import { randomBytes } from 'node:crypto';
import { statfsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isGatewayError } from '../../src/core/errors.ts';
import type { Outbox, OutboxEvent } from '../../src/core/outbox.ts';
import { createBlockDevice } from '../support/block-device.ts';
import { message } from '../support/builders.ts';
import { drain, gatewayEvent, openTestOutbox } from '../support/outbox.ts';

const FULL = process.env['FIELDPOST_FULL'] === '1';
const MEBIBYTE = 1024 * 1024;
/** As the store leaves free whatever the settings say (space.ts). */
const HARD_FLOOR_FRACTION = 1 / 8;
const GROUP_BYTES = 60_000;
/** Longer than LevelDB's compression looks back, so that sizes on disk are what they seem. */
const FILLER = randomBytes(1_500_000).toString('base64');

interface Case {
  readonly diskBytes: number;
  readonly maxBytes?: number;
  readonly minFreeBytes?: number;
  readonly type?: 'ext4' | 'tmpfs';
  readonly turns: number;
}

const SMALLEST: Case = { diskBytes: 33 * MEBIBYTE, turns: 4 };
const CASES: readonly Case[] = FULL
  ? [
      SMALLEST,
      { ...SMALLEST, type: 'tmpfs' },
      { diskBytes: 46 * MEBIBYTE, turns: 5 },
      { diskBytes: 46 * MEBIBYTE, turns: 5, type: 'tmpfs' },
      { diskBytes: 120 * MEBIBYTE, minFreeBytes: 20_000_000, turns: 3 },
      { diskBytes: 120 * MEBIBYTE, maxBytes: 50 * MEBIBYTE, turns: 3 },
    ]
  : [SMALLEST];

function freeBytes(path: string): number {
  const { bavail, bsize } = statfsSync(path);
  return bavail * bsize;
}

/** Appends messages of that size until `until` says so; resolves with the acknowledged ones, and the longest time without. */
async function press(
  outbox: Outbox,
  device: string,
  bytes: number,
  until: () => boolean,
): Promise<{ readonly acknowledged: number; readonly refusedForMs: number; readonly codes: ReadonlySet<string> }> {
  const codes = new Set<string>();
  let acknowledged = 0;
  let refusedForMs = 0;
  let answeredMs = performance.now();
  let at = 0;
  while (!until()) {
    const group = Array.from({ length: Math.max(1, Math.floor(GROUP_BYTES / bytes)) }, () => {
      at = (at + bytes) % (FILLER.length - bytes);
      return { message: message({ device, text: FILLER.slice(at, at + bytes) }), queues: [] };
    });
    try {
      await outbox.append(group);
      acknowledged += group.length;
      answeredMs = performance.now();
    } catch (error) {
      codes.add(isGatewayError(error) ? error.code : String(error));
      refusedForMs = Math.max(refusedForMs, performance.now() - answeredMs);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }
  return { acknowledged, refusedForMs, codes };
}

describe('a limit that takes the oldest', () => {
  it.each(CASES)(
    'does not fill the disk: %j',
    async (each) => {
      await using device = await createBlockDevice({ bytes: each.diskBytes, type: each.type ?? 'ext4' });
      const events: Exclude<OutboxEvent, { kind: 'committed' }>[] = [];
      let storedBytes = 0;
      const { maxBytes = 1024 * MEBIBYTE, minFreeBytes = 0 } = each;
      const outbox = await openTestOutbox(join(device.path, 'db', 'log'), {
        settings: { whenFull: 'drop_oldest', maxBytes, minFreeBytes },
        onEvent: (event) => {
          if (event.kind === 'committed') storedBytes += event.bytes;
          else events.push(event);
        },
      });
      let lowestBytes = freeBytes(device.path);
      const watch = setInterval(() => (lowestBytes = Math.min(lowestBytes, freeBytes(device.path))), 2);
      const until = (): boolean => storedBytes > each.turns * Math.min(each.diskBytes, maxBytes);
      const startedMs = performance.now();
      const presses = await Promise.all([
        press(outbox, 'small', 200, until),
        press(outbox, 'middling', 1200, until),
        press(outbox, 'large', 20_000, until),
      ]);
      clearInterval(watch);
      const turnMs = (performance.now() - startedMs) / each.turns;

      for (const { codes, refusedForMs } of presses) {
        expect([...codes].filter((code) => code !== 'GW_OUTBOX_BUSY')).toEqual([]);
        // A moment, measured by what the same machine takes to write the whole store once.
        expect(refusedForMs).toBeLessThan(turnMs);
      }
      expect(events.filter(({ kind }) => kind === 'write_failed' || kind === 'salvaged')).toEqual([]);
      const { blocks, bsize } = statfsSync(device.path);
      const hardFloorBytes = Math.min(16 * MEBIBYTE, blocks * bsize * HARD_FLOOR_FRACTION);
      expect(lowestBytes).toBeGreaterThan(hardFloorBytes / 2);
      expect(lowestBytes).toBeGreaterThan(minFreeBytes / 2);

      const acknowledged = presses.reduce((sum, press) => sum + press.acknowledged, 0);
      const arrived = (await drain(outbox)).filter((stored) => gatewayEvent(stored) === undefined).length;
      const told = events.reduce(
        (sum, event) => (event.kind === 'dropped' && event.deviceId !== 'gateway-1' ? sum + event.count : sum),
        0,
      );
      expect(told).toBeGreaterThan(0);
      expect(arrived + told).toBe(acknowledged);
      await outbox.close();
    },
    300_000,
  );
});
