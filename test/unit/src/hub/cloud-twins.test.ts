import { describe, expect, it } from 'vitest';
import { parseDeviceId } from '../../../../src/core/device.ts';
import type { JsonObject } from '../../../../src/core/json.ts';
import type { CloudTwins } from '../../../../src/hub/cloud-twins.ts';
import { makeSasToken } from '../../../../src/iothub/sas-token.ts';
import { hmacSha256 } from '../../../../src/platform/hmac.ts';
import { waitFor } from '../../../support/wait.ts';
import { HUB, hubRig, refusalOf, type HubRig } from '../../../support/hub.ts';
import { ManualClock } from '../../../support/manual-clock.ts';
import { memoryStateStore } from '../../../support/state.ts';

const CLOUD = 'plant.azure-devices.test';
const KEY = Buffer.alloc(32, 5).toString('base64');
const D1 = parseDeviceId('d1');

interface CloudRig extends HubRig {
  readonly twins: CloudTwins;
  readonly told: string[];
  readonly report: (patch: JsonObject) => Promise<number>;
  /** As the device sees it. */
  readonly own: () => Promise<{ readonly desired: JsonObject; readonly reported: JsonObject }>;
  /** The patches of desired properties that the device was sent since this was asked last. */
  readonly patches: () => unknown[];
}

/** A device of the cloud is logged in. */
async function rig(
  options: { readonly from?: HubRig; readonly caughtUp?: () => Promise<void> } = {},
): Promise<CloudRig> {
  const told: string[] = [];
  const clock = options.from?.clock ?? new ManualClock();
  const hub = await hubRig({
    clock,
    state: options.from?.state ?? (await memoryStateStore()),
    cloud: () => ({ hostName: CLOUD, keysOf: () => Promise.resolve([KEY]) }),
    onSession: (_, deviceId) => void told.push(deviceId),
    ...(options.caughtUp && { caughtUp: options.caughtUp }),
  });
  await hub.hub.policiesOf(HUB).all();
  const resource = `${CLOUD}/devices/d1`;
  const token = makeSasToken({ resource, key: KEY, expiresAtMs: clock.wallMs() + 60_000 }, { hmacSha256 });
  await hub.connect({ deviceId: 'd1' }, { token, interests: ['desired'] });
  const twins = hub.hub.cloudTwins;
  if (twins === undefined) throw new Error('There is no cloud.');
  return {
    ...hub,
    twins,
    told,
    report: (patch) => hub.hub.twins.report(HUB, { deviceId: 'd1' }, Buffer.from(JSON.stringify(patch))),
    own: async () => JSON.parse(Buffer.from(await hub.hub.twins.own(HUB, { deviceId: 'd1' })).toString()) as never,
    patches: () =>
      hub.sent
        .splice(0)
        .flatMap((item) =>
          item.kind === 'desired' ? [JSON.parse(Buffer.from(item.patch).toString()) as unknown] : [],
        ),
  };
}

const twin = (version: number, desired: JsonObject, reported: JsonObject = {}, reportedVersion = 1) => ({
  version,
  desired,
  reported,
  reportedVersion,
});
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('desired properties of a device of the cloud', () => {
  it('become those of the cloud, with its version, and the device is told the difference once', async () => {
    const { own, patches, twins, hub } = await rig();
    await twins.take(D1, twin(7, { a: 1, deep: { x: 1, y: 2 } }));
    expect((await own()).desired).toEqual({ a: 1, deep: { x: 1, y: 2 }, $version: 7 });
    await twins.take(D1, twin(9, { deep: { x: 1, y: 3 }, b: true }));
    await twins.take(D1, twin(9, { deep: { x: 1, y: 3 }, b: true }));
    await turn();
    expect(patches()).toEqual([
      { a: 1, deep: { x: 1, y: 2 }, $version: 7 },
      { deep: { y: 3 }, b: true, a: null, $version: 9 },
    ]);
    const document = await hub.twins.get(HUB, { deviceId: 'd1' });
    expect(document).toMatchObject({
      properties: { desired: { $version: 9, $metadata: { deep: { x: { $lastUpdatedVersion: 7 } } } } },
    });
    // It was made anew at the cloud.
    await twins.take(D1, twin(1, {}));
    await turn();
    expect(patches()).toEqual([{ deep: null, b: null, $version: 1 }]);
  });

  it('follow patches in their order alone', async () => {
    const { own, patches, twins } = await rig();
    await twins.take(D1, twin(2, { a: 1 }));
    expect(await twins.takeDesired(D1, { a: 1 }, 3)).toBe(true);
    expect(await twins.takeDesired(D1, { a: 0 }, 3)).toBe(true);
    expect(await twins.takeDesired(D1, { b: 2 }, 5)).toBe(false);
    expect(await twins.takeDesired(D1, { a: null, c: 3 }, 4)).toBe(true);
    expect((await own()).desired).toEqual({ c: 3, $version: 4 });
    await turn();
    // One that changes nothing is told as well: somebody desired it.
    expect(patches().slice(1)).toEqual([
      { a: 1, $version: 3 },
      { a: null, c: 3, $version: 4 },
    ]);
  });

  it('are not to be written here, while there is a cloud', async () => {
    const { hub } = await rig();
    const ref = { deviceId: 'd1' };
    expect(await refusalOf(hub.twins.patch(HUB, ref, { desired: { a: 1 } }, '*'))).toBe('ServiceUnavailable');
    expect(await refusalOf(hub.twins.replace(HUB, ref, { tags: { a: 1 } }, '*'))).toBe('ServiceUnavailable');
    await hub.identities.putDevice(HUB, { deviceId: 'local' }, undefined);
    await hub.twins.patch(HUB, { deviceId: 'local' }, { desired: { a: 1 } }, '*');
  });

  it('are caught up with before the device gets them', async () => {
    const steps: Promise<void>[] = [];
    const { own, twins } = await rig({
      caughtUp: async () => {
        const step = twins.take(D1, twin(4, { a: 4 }));
        steps.push(step);
        await step;
      },
    });
    expect((await own()).desired).toEqual({ a: 4, $version: 4 });
    expect(steps).toHaveLength(1);
  });

  it('of devices that are registered here for themselves are left alone', async () => {
    const { hub, twins } = await rig();
    const local = parseDeviceId('local');
    await hub.identities.putDevice(HUB, { deviceId: local }, undefined);
    await twins.take(local, twin(4, { a: 4 }));
    await twins.take(parseDeviceId('nobody'), twin(4, { a: 4 }));
    const own = JSON.parse(Buffer.from(await hub.twins.own(HUB, { deviceId: local })).toString()) as unknown;
    expect(own).toEqual({ desired: { $version: 1 }, reported: { $version: 1 } });
  });
});

describe('reported properties of a device of the cloud', () => {
  it('are the difference to what the cloud has, until it has them', async () => {
    const { report, told, twins } = await rig();
    await twins.take(D1, twin(1, {}));
    expect(await twins.unsent(D1)).toBeUndefined();
    told.length = 0;
    expect(await report({ a: 1, b: { c: 1, d: 1 } })).toBe(2);
    expect(await report({ b: { d: null } })).toBe(3);
    expect(told).toEqual(['d1', 'd1']);
    const first = await twins.unsent(D1);
    expect(first).toEqual({ a: 1, b: { c: 1 } });
    // Reported while that was on its way.
    await report({ a: 2, e: 5 });
    await twins.sent(D1, first ?? {});
    expect(await twins.unsent(D1)).toEqual({ a: 2, e: 5 });
    await twins.sent(D1, { a: 2, e: 5 });
    expect(await twins.unsent(D1)).toBeUndefined();
    expect([...twins.unsentDevices()]).toEqual([]);
    await report({ a: null });
    expect(await twins.unsent(D1)).toEqual({ a: null });
    await report({ a: 2 });
    expect(await twins.unsent(D1)).toBeUndefined();
  });

  it('join those that the cloud had before, and those that went there by another way', async () => {
    const { own, report, twins } = await rig();
    await report({ a: 1 });
    await twins.take(D1, twin(1, {}, { old: true, a: 0 }, 8));
    expect((await own()).reported).toMatchObject({ old: true, a: 1 });
    expect(await twins.unsent(D1)).toEqual({ a: 1 });
    await twins.sent(D1, { a: 1 });
    await report({ b: 2 });
    // The device was at the cloud itself meanwhile.
    await twins.take(D1, twin(1, {}, { a: 7, c: 7 }, 11));
    expect((await own()).reported).toEqual({ a: 7, b: 2, c: 7, $version: expect.any(Number) as unknown });
    expect(await twins.unsent(D1)).toEqual({ b: 2 });
  });

  it('stand where the cloud answers by what it knew before, and where it was made anew', async () => {
    const { own, report, twins } = await rig();
    await twins.take(D1, twin(1, {}, {}, 3));
    await report({ a: 1 });
    await twins.sent(D1, { a: 1 });
    await twins.take(D1, twin(1, {}, {}, 3));
    expect((await own()).reported).toMatchObject({ a: 1 });
    expect(await twins.unsent(D1)).toEqual({ a: 1 });
    // The cloud has taken what nobody heard of: the same again is nothing new.
    await twins.take(D1, twin(1, {}, { a: 1 }, 4));
    expect(await twins.unsent(D1)).toBeUndefined();
  });

  it('are known after a restart', async () => {
    const before = await rig();
    await before.twins.take(D1, twin(1, {}, { z: 1 }, 2));
    await before.report({ a: 1 });
    const after = await rig({ from: before });
    await waitFor(() => after.twins.hasUnsent('d1'));
    expect(await after.twins.unsent(D1)).toEqual({ a: 1 });
    await after.hub.identities.deleteDevice(HUB, 'd1', '*');
    expect(after.twins.hasUnsent('d1')).toBe(false);
    const last = await rig({ from: before });
    await turn();
    expect([...last.twins.unsentDevices()]).toEqual([]);
  });
});
