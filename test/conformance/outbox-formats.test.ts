// Stores of earlier releases: everything in them is there, and they go on being used.

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { StoredMessage } from '../../src/core/message.ts';
import type { OutboxEvent } from '../../src/core/outbox.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { openFixture } from './outbox-fixture.ts';

const FIXTURES = join(import.meta.dirname, '..', 'fixtures');

function text({ message: { body } }: StoredMessage): string {
  return Buffer.from(body).toString();
}

describe.each(['outbox-v1'])('%s', (format) => {
  it.each(['clean', 'killed'])('opens the %s store with all that it holds', async (state) => {
    using directory = createTempDir('formats');
    execFileSync('tar', ['-xzf', join(FIXTURES, `${format}.tar.gz`), '-C', directory.path]);
    const events: OutboxEvent[] = [];
    const outbox = await openFixture(directory.file(state), (event) => events.push(event));
    expect(events).toEqual([]);
    expect(outbox.stats()).toMatchObject({ epoch: 'kc6hr', tailOffset: 44, quarantined: 1 });
    expect(outbox.clockOffset('a-boot')).toBe(42);

    const upstream = outbox.queue('$upstream');
    const limit = { maxMessages: 100, maxBytes: 1e6 };
    // After a kill, what came behind the newest checkpoint is in the live lane.
    const history = [...(await upstream.take('history', limit)), ...(await upstream.take('live', limit))];
    expect(history.map(({ offset }) => offset)).toEqual([3, ...Array.from({ length: 34 }, (_, index) => 10 + index)]);
    expect(history.slice(0, 2).map(text)).toEqual(['t3', 't10']);
    expect(history.find(({ offset }) => offset === 16)).toMatchObject({
      seq: 9,
      messageId: 'kc6hr.meter-0.9',
      message: { deviceId: 'meter-0', properties: { level: 'alarm', größe: '✓' } },
    });
    const [polled, own, quarantined, live] = history.slice(-4);
    expect(text(polled as StoredMessage)).toBe(
      '{"device":"polled","time":"2026-01-02T03:04:05.678Z","epoch":"kc6hr","seq":1,"values":{"voltage":230.1}}',
    );
    expect(polled?.message).toMatchObject({ stamps: { timeAt: 27 }, time: { bootId: 'a-boot', monotonicMs: 12.5 } });
    expect(own).toMatchObject({ messageId: 'mine', message: { properties: { 'fieldpost-id': 'kc6hr.own.1' } } });
    expect(JSON.parse(text(quarantined as StoredMessage))).toMatchObject({ event: 'quarantined', seq: 4 });
    expect(text(live as StoredMessage)).toBe('live');

    const alarms = await outbox.queue('alarms').take('live', limit);
    expect(alarms.map(text)).toEqual(['t0', 't8', 't16', 't24', 't32', 'live']);
    const [kept] = await outbox.quarantined({ limit: 10 });
    expect(kept).toMatchObject({ queue: '$upstream', reason: 'schema', stored: { offset: 7, seq: 4 } });

    const fresh = { message: { ...(live as StoredMessage).message, body: Buffer.from('fresh') }, queues: [] };
    expect(await outbox.append([fresh])).toEqual([{ offset: 44, seq: 22 }]);
    await outbox.close();
  });
});
