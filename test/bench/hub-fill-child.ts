// Fills the registry of a hub that does not run: `node hub-fill-child.ts DATA COUNT`. Devices `device-0` and on, whose keys are
// drawn. Reports when it is done.

import { join } from 'node:path';
import { createHub, HUB_STATE_LIMITS } from '../../src/hub/hub.ts';
import { QUOTAS } from '../../src/iothub/quotas.ts';
import type { Events } from '../../src/core/hub/messaging.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { openSealer } from '../../src/platform/sealing.ts';
import { openStateStore } from '../../src/store/state/open.ts';
import { report } from '../support/child.ts';
import { HOST_NAME } from './hub-client.ts';

/** Bulk calls at a time. */
const PARALLEL = 8;
const HUB = 'hub';

const [dataDirectory = '', countText = '1000000'] = process.argv.slice(2);
const count = Number(countText);
const clock = new SystemClock();
const telemetry = { emit: () => {} };
const sealer = await openSealer({ dataDirectory, env: {} });
const directory = join(dataDirectory, 'db', 'hub');
const state = await openStateStore({ directory, limits: HUB_STATE_LIMITS, clock, telemetry });
const hub = createHub({
  hubs: [
    {
      info: {
        hubId: HUB,
        hostName: HOST_NAME,
        alternateNames: [],
        eventHubName: HUB,
        consumerGroups: ['$Default'],
        faultInjection: false,
      },
    },
  ],
  state,
  sealer,
  // Nobody sends or reads anything here.
  events: {} as Events,
  telemetryIntake: { send: () => Promise.resolve() },
  clock,
  random: systemRandom,
  telemetry,
});

let next = 0;
async function fill(): Promise<void> {
  while (next < count) {
    const from = next;
    next = Math.min(count, from + QUOTAS.identities_per_bulk);
    const entries = Array.from({ length: next - from }, (_, n) => ({
      mode: 'create' as const,
      device: { deviceId: `device-${from + n}` },
    }));
    const failures = await hub.identities.bulk(HUB, entries);
    if (failures.length > 0) throw new Error(`${failures[0]?.deviceId}: ${failures[0]?.errorStatus}`);
  }
}

await Promise.all(Array.from({ length: PARALLEL }, fill));
await hub.stop();
await state.close();
report({ filled: count });
