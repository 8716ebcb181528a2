// A hub on disk that works until it is killed, and says what was acknowledged: `{op, …}` in lines of JSON.

import { createHub, HUB_STATE_LIMITS } from '../../src/hub/hub.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { createSealer } from '../../src/platform/sealing.ts';
import { openStateStore } from '../../src/store/state/open.ts';
import { hubInfo, HUB } from '../support/hub.ts';
import { report } from '../support/child.ts';

const [directory = '', life = ''] = process.argv.slice(2);
const clock = new SystemClock();
const telemetry = { emit: () => {} };
const state = await openStateStore({ directory, clock, telemetry, limits: HUB_STATE_LIMITS });
const hub = createHub({
  hubs: [{ info: hubInfo }],
  state,
  sealer: createSealer(Buffer.alloc(32, 1)),
  events: {
    info: () => ({ partitions: 1, createdAtMs: 0 }),
    partition: () => Promise.reject(new Error('no events')),
    locate: () => Promise.resolve(0),
    read: () => Promise.resolve([]),
  },
  telemetryIntake: { send: () => Promise.resolve() },
  clock,
  random: systemRandom,
  telemetry,
});
hub.start();

/** One device after the other is created, told things and deleted or left, as fast as the disk goes. */
async function work(lane: number): Promise<void> {
  for (let count = 0; ; count += 1) {
    const deviceId = `${life}-${lane}-${count}`;
    const ref = { deviceId };
    await hub.identities.putDevice(HUB, ref, undefined);
    report({ op: 'created', deviceId });
    for (const name of ['a', 'b', 'c']) {
      const message = { body: Buffer.from(name), properties: {}, messageId: name, ack: 'full' } as const;
      await hub.commands.send(HUB, ref, message);
      report({ op: 'sent', deviceId, name });
    }
    const command = await hub.commands.receive(HUB, deviceId);
    await hub.commands.settle(HUB, deviceId, command?.lockToken ?? '', 'complete');
    report({ op: 'completed', deviceId, name: command?.message.messageId });
    const version = await hub.twins.report(HUB, ref, Buffer.from(`{"count":${count}}`));
    report({ op: 'reported', deviceId, version });
    if (count % 3 === 0) {
      await hub.identities.deleteDevice(HUB, deviceId, '*');
      report({ op: 'deleted', deviceId });
    }
  }
}

await Promise.all([0, 1, 2, 3].map(work));
