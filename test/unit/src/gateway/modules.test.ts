import { expect, it } from 'vitest';
import { hubConfig, hubSchema } from '../../../../src/config/hub-schema.ts';
import type { GatewayConfig } from '../../../../src/config/config.ts';
import { parseDeviceId } from '../../../../src/core/device.ts';
import { keepStreams } from '../../../../src/gateway/modules.ts';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { systemRandom } from '../../../../src/platform/random.ts';
import { createMemoryOutbox } from '../../../../src/store/memory-outbox.ts';
import { DROPPING } from '../../../support/outbox.ts';

it('says so when the events of the hub keep another number of partitions than is configured', async () => {
  const outbox = createMemoryOutbox({
    gatewayId: parseDeviceId('gateway'),
    clock: new SystemClock(),
    random: systemRandom,
    settings: DROPPING,
    queues: [],
  });
  const said: unknown[] = [];
  const telemetry = { emit: (name: string, fields?: object) => void said.push([name, fields]) };
  const keep = (partitions: number): Promise<void> => {
    const hub = hubConfig(hubSchema.parse({ enabled: true, events: { partitions } }));
    return keepStreams(outbox, { hub } as GatewayConfig, telemetry);
  };
  await keep(2);
  await keep(2);
  expect(said).toEqual([]);
  await keep(3);
  const fields = { field: 'hub.events.partitions', configured: 3, partitions: 2 };
  expect(said).toEqual([['hub_partitions_fixed', expect.objectContaining(fields)]]);
  await outbox.close();
});
