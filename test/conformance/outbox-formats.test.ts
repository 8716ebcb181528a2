// Stores of earlier releases: everything in them is there, and they go on being used.

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { StoredMessage } from '../../src/core/message.ts';
import type { OutboxEvent } from '../../src/core/outbox.ts';
import { openLevel } from '../../src/platform/level.ts';
import { metaKey } from '../../src/store/keys.ts';
import { unseal } from '../../src/store/sealed.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { openFixture } from './outbox-fixture.ts';

const TUNING = { writeBufferBytes: 1 << 20, cacheBytes: 1 << 18, tableBytes: 1 << 20 };
const FIXTURES = join(import.meta.dirname, '..', 'fixtures');

function text({ message: { body } }: StoredMessage): string {
  return Buffer.from(body).toString();
}

/** Fixtures with the epoch that chance gave each. */
const FORMATS = [
  ['outbox-v1', 'kc6hr'],
  ['outbox-v2', 'qpv71'],
] as const;

describe.each(FORMATS)('%s', (format, epoch) => {
  it.each(['clean', 'killed'])('opens the %s store with all that it holds', async (state) => {
    using directory = createTempDir('formats');
    execFileSync('tar', ['-xzf', join(FIXTURES, `${format}.tar.gz`), '-C', directory.path]);
    const events: OutboxEvent[] = [];
    const outbox = await openFixture(directory.file(state), (event) => events.push(event));
    expect(events).toEqual([]);
    expect(outbox.stats()).toMatchObject({ epoch, tailOffset: 44, quarantined: 1 });
    expect(outbox.clockOffset('a-boot')).toBe(42);

    const upstream = outbox.queue('$upstream');
    const limit = { maxMessages: 100, maxBytes: 1e6 };
    // After a kill, what came behind the newest checkpoint is in the live lane.
    const history = [...(await upstream.take('history', limit)), ...(await upstream.take('live', limit))];
    expect(history.map(({ offset }) => offset)).toEqual([3, ...Array.from({ length: 34 }, (_, index) => 10 + index)]);
    expect(history.slice(0, 2).map(text)).toEqual(['t3', 't10']);
    expect(history.find(({ offset }) => offset === 16)).toMatchObject({
      seq: 9,
      messageId: `${epoch}.meter-0.9`,
      message: { deviceId: 'meter-0', properties: { level: 'alarm', größe: '✓' } },
    });
    const [polled, own, quarantined, live] = history.slice(-4);
    expect(text(polled as StoredMessage)).toBe(
      `{"device":"polled","time":"2026-01-02T03:04:05.678Z","epoch":"${epoch}","seq":1,"values":{"voltage":230.1}}`,
    );
    expect(polled?.message).toMatchObject({ stamps: { timeAt: 27 }, time: { bootId: 'a-boot', monotonicMs: 12.5 } });
    expect(own).toMatchObject({ messageId: 'mine', message: { properties: { 'fieldpost-id': `${epoch}.own.1` } } });
    expect(JSON.parse(text(quarantined as StoredMessage))).toMatchObject({ event: 'quarantined', seq: 4 });
    expect(text(live as StoredMessage)).toBe('live');

    const alarms = await outbox.queue('alarms').take('live', limit);
    expect(alarms.map(text)).toEqual(['t0', 't8', 't16', 't24', 't32', 'live']);
    const [kept] = await outbox.quarantined({ limit: 10 });
    expect(kept).toMatchObject({ queue: '$upstream', reason: 'schema', stored: { offset: 7, seq: 4 } });

    // What is written now stands behind the old messages, and both are given again after a restart.
    const fresh = { message: { ...(live as StoredMessage).message, body: Buffer.from('fresh') }, queues: ['alarms'] };
    expect(await outbox.append([fresh])).toEqual([{ offset: 44, seq: 22 }]);
    await outbox.close();
    const again = await openFixture(directory.file(state), (event) => events.push(event));
    expect(events.filter(({ kind }) => kind !== 'committed')).toEqual([]);
    const all = [
      ...(await again.queue('$upstream').take('history', limit)),
      ...(await again.queue('$upstream').take('live', limit)),
    ];
    const stable = (stored: StoredMessage): unknown => ({ ...stored, text: text(stored), message: undefined });
    expect(all.slice(0, -1).map(stable)).toEqual(history.map(stable));
    expect(text(all.at(-1) as StoredMessage)).toBe('fresh');
    const routed = again.queue('alarms');
    const given = [...(await routed.take('history', limit)), ...(await routed.take('live', limit))];
    expect(given.map(text)).toEqual([...alarms.map(text), 'fresh']);
    await again.queue('$upstream').settle(all.map(({ offset }) => ({ offset, outcome: 'accepted' })));
    await routed.settle(given.map(({ offset }) => ({ offset, outcome: 'accepted' })));
    expect(again.stats()).toMatchObject({ messages: 0, bytes: 0 });
    await again.close();

    // An earlier release must not take the new chunks for damage.
    const level = await openLevel(directory.file(state), TUNING);
    expect(unseal(await level.get(metaKey('format')))).toEqual({ writes: 3, readable_from: 2 });
    await level.close();
  });
});
