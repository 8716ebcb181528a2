// What the stores in test/fixtures/outbox-v<n>.tar.gz hold. Each was written by the release that introduced its format and
// never again; every later release has to open them. Run with a directory to write them in today's format: `clean` was
// closed, `killed` was not. Packed, because a log is mostly zeros.

import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import type { DeviceId } from '../../src/core/device.ts';
import type { Outbox, QueueDefinition } from '../../src/core/outbox.ts';
import { formatOf } from '../../src/pipeline/encode.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { openOutbox } from '../../src/store/open.ts';
import { message, timestamp } from '../support/builders.ts';
import { DROPPING } from '../support/outbox.ts';

export const FIXTURE_QUEUES: readonly QueueDefinition[] = [
  { name: '$upstream', takes: 'all', order: 'live_first' },
  { name: 'alarms', takes: 'routed', order: 'strict' },
];

export function openFixture(directory: string, onEvent?: Parameters<typeof openOutbox>[0]['onEvent']): Promise<Outbox> {
  return openOutbox({
    directory,
    gatewayId: 'gateway' as DeviceId,
    clock: new SystemClock(),
    random: systemRandom,
    settings: DROPPING,
    queues: FIXTURE_QUEUES,
    // Too little for the ballast file.
    freeBytes: () => Promise.resolve(16 * 1024 * 1024),
    ...(onEvent === undefined ? {} : { onEvent }),
  });
}

async function write(directory: string): Promise<void> {
  const outbox = await openFixture(join(directory, 'clean'));
  const upstream = outbox.queue('$upstream');
  for (let index = 0; index < 40; index += 1) {
    const queues = index % 8 === 0 ? ['alarms'] : [];
    const properties = index % 8 === 0 ? { level: 'alarm', größe: '✓' } : {};
    await outbox.append([
      { message: message({ device: `meter-${index % 2}`, text: `t${index}`, properties }), queues },
    ]);
  }
  await outbox.append([
    {
      message: formatOf('json').single({
        deviceId: 'polled' as DeviceId,
        time: timestamp({ bootId: 'a-boot', monotonicMs: 12.5 }),
        readings: [{ point: 'voltage', value: 230.1, quality: { level: 'good' } }],
      }),
      queues: [],
    },
    { message: message({ device: 'own', text: 'own id', systemProperties: { messageId: 'mine' } }), queues: [] },
  ]);
  const taken = await upstream.take('live', { maxMessages: 10, maxBytes: 1e6 });
  await upstream.settle(
    taken.map(({ offset }) =>
      offset === 7
        ? { offset, outcome: 'rejected', reason: 'schema' }
        : { offset, outcome: offset === 3 ? 'retry' : 'accepted' },
    ),
  );
  upstream.split();
  await outbox.recordClockOffset('a-boot', 42);
  await outbox.append([{ message: message({ device: 'meter-0', text: 'live' }), queues: ['alarms'] }]);
  await cp(join(directory, 'clean'), join(directory, 'killed'), { recursive: true });
  await outbox.close();
}

if (import.meta.main) await write(process.argv[2] ?? '');
