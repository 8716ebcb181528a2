// Over a real outbox in memory.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { watchEvents } from '../../../../src/admin/event-watch.ts';
import type { DeviceId } from '../../../../src/core/device.ts';
import type { Events } from '../../../../src/core/hub/messaging.ts';
import type { Outbox } from '../../../../src/core/outbox.ts';
import { createEvents } from '../../../../src/hub/events.ts';
import { eventsPlace, eventsStream } from '../../../../src/iothub/events-stream.ts';
import { createRouter } from '../../../../src/pipeline/route.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { systemRandom } from '../../../../src/platform/random.ts';
import { createMemoryOutbox } from '../../../../src/store/memory-outbox.ts';
import { message } from '../../../support/builders.ts';
import { DROPPING } from '../../../support/outbox.ts';
import { waitFor } from '../../../support/wait.ts';

const range = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, n) => String(from + n));

describe('a watch of all partitions', () => {
  let outbox: Outbox;
  let events: Events;
  let seen: string[];
  let partitions: Set<number>;
  const watching = new Set<AbortController>();
  const route = createRouter({ endpoints: [], routes: [], events: (sent) => eventsPlace(sent, 'hub', 4) });

  /** Numbers from eight devices, which are in all four partitions, some of them in one commit. */
  async function send(from: number, to: number): Promise<void> {
    for (let first = from; first < to; first += 3) {
      const numbers = range(first, Math.min(first + 3, to));
      const sent = numbers.map((text) => message({ device: `d${(Number(text) * 5) % 8}`, text }));
      await outbox.append(sent.map((one) => ({ message: one, ...route.route(one), queues: [] })));
    }
  }

  function watch(from: 'earliest' | 'latest', enough = Number.POSITIVE_INFINITY): Promise<void> {
    const stop = new AbortController();
    watching.add(stop);
    return watchEvents(events, {
      hubId: 'hub',
      from,
      signal: stop.signal,
      report(partition, { body }) {
        seen.push(Buffer.from(body).toString());
        partitions.add(partition);
        if (seen.length >= enough) stop.abort();
      },
    });
  }

  beforeEach(async () => {
    seen = [];
    partitions = new Set();
    outbox = createMemoryOutbox({
      gatewayId: 'gateway' as DeviceId,
      clock: new SystemClock(),
      random: systemRandom,
      settings: DROPPING,
      queues: [],
    });
    await outbox.setStreams([{ name: eventsStream('hub'), partitions: 4, retentionSecs: 3600, maxBytes: 1e7 }]);
    events = createEvents({ outbox });
  });
  afterEach(async () => {
    for (const stop of watching) stop.abort();
    watching.clear();
    await outbox.close();
  });

  it('tells what is there in the order in which it came, over many pages, then what comes', async () => {
    await send(0, 1000);
    const ended = watch('earliest', 1002);
    await waitFor(() => seen.length === 1000);
    expect(seen).toEqual(range(0, 1000));
    expect(partitions.size).toBe(4);
    await send(1000, 1001);
    await waitFor(() => seen.length === 1001);
    await send(1001, 1002);
    await ended;
    expect(seen).toEqual(range(0, 1002));
  });

  it('ends with the first of what is there', async () => {
    await send(0, 50);
    await watch('earliest', 10);
    expect(seen).toEqual(range(0, 10));
  });

  it('begins with what comes, if it is to', async () => {
    await send(0, 10);
    const ended = watch('latest', 1);
    // Until it waits.
    await new Promise((resolve) => setImmediate(resolve));
    await send(10, 11);
    await ended;
    expect(seen).toEqual(['10']);
  });
});
