// A hub on disk is killed in the middle of its work, again and again: what it acknowledged is there, and nothing half done.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openStateStore } from '../../src/store/state/open.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { createSealer } from '../../src/platform/sealing.ts';
import { HUB_STATE_LIMITS } from '../../src/hub/hub.ts';
import { startChild } from '../support/child.ts';
import { HUB, hubRig, type HubRig } from '../support/hub.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const CHILD = new URL('../crash/hub-child.ts', import.meta.url).pathname;
const LIVES = 3;

interface Acknowledged {
  readonly op: 'created' | 'sent' | 'completed' | 'reported' | 'deleted';
  readonly deviceId: string;
  readonly name?: string;
  readonly version?: number;
}

interface Device {
  readonly sent: string[];
  completed: string | undefined;
  version: number;
  isDeleted: boolean;
}

let dir: TempDir;

beforeEach(() => {
  dir = createTempDir('hub-kill');
});

afterEach(() => {
  dir.remove();
});

function take(devices: Map<string, Device>, { op, deviceId, name = '', version = 1 }: Acknowledged): void {
  const device = devices.get(deviceId) ?? { sent: [], completed: undefined, version: 1, isDeleted: false };
  devices.set(deviceId, device);
  if (op === 'sent') device.sent.push(name);
  else if (op === 'completed') device.completed = name;
  else if (op === 'reported') device.version = version;
  else if (op === 'deleted') device.isDeleted = true;
}

/** The last operation of a device may have been done without having been acknowledged. */
async function check(rig: HubRig, deviceId: string, device: Device): Promise<void> {
  const identity = await rig.hub.identities.device(HUB, deviceId).catch(() => undefined);
  if (device.isDeleted) {
    expect(identity, deviceId).toBeUndefined();
    return;
  }
  if (identity === undefined) {
    // Its deletion was under way, which comes last and of every third.
    expect(device.version, deviceId).toBe(2);
    return;
  }
  const twin = JSON.parse(Buffer.from(await rig.hub.twins.own(HUB, { deviceId })).toString()) as {
    reported: { $version: number };
  };
  expect([device.version, device.version + 1], deviceId).toContain(twin.reported.$version);
  const names: string[] = [];
  for (;;) {
    const command = await rig.hub.commands.receive(HUB, deviceId);
    if (command === undefined) break;
    names.push(command.message.messageId ?? '');
  }
  expect(identity.cloudToDeviceMessageCount, deviceId).toBe(names.length);
  const due = device.sent.filter((name) => name !== device.completed);
  const next = ['a', 'b', 'c'].slice(0, device.sent.length + 1);
  const possible = [due, device.completed === undefined ? due.slice(1) : due, next].map((list) => list.join());
  expect(possible, deviceId).toContain(names.join());
}

describe('a hub that is killed', () => {
  it('keeps all that it acknowledged', async () => {
    const devices = new Map<string, Device>();
    for (let life = 0; life < LIVES; life += 1) {
      let count = 0;
      const child = startChild(CHILD, {
        args: [dir.file('hub'), `life${life}`],
        onReport(report) {
          count += 1;
          take(devices, report as Acknowledged);
        },
      });
      await waitFor(() => count > 60 + life * 37, { timeoutMs: 30_000 });
      await child.kill();
    }
    expect(devices.size).toBeGreaterThan(LIVES * 4);
    const salvages: string[] = [];
    const state = await openStateStore({
      directory: dir.file('hub'),
      clock: new SystemClock(),
      telemetry: { emit: (event) => salvages.push(event) },
      limits: HUB_STATE_LIMITS,
    });
    const rig = await hubRig({ state, sealer: createSealer(Buffer.alloc(32, 1)) });
    for (const [deviceId, device] of devices) await check(rig, deviceId, device);
    const { totalDeviceCount } = await rig.hub.identities.statistics(HUB);
    const listed = await rig.hub.identities.devices(HUB, { limit: 1000 });
    expect(totalDeviceCount).toBe(listed.length);
    await rig.hub.stop();
    await state.close();
    expect(salvages).toEqual([]);
  });
});
