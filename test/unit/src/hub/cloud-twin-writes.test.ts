import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { TwinRequest } from '../../../../src/core/endpoint.ts';
import { GatewayError } from '../../../../src/core/errors.ts';
import type { JsonObject } from '../../../../src/core/json.ts';
import type { HubTwins } from '../../../../src/hub/twins.ts';
import { iotHubError } from '../../../../src/iothub/errors.ts';
import { makeSasToken } from '../../../../src/iothub/sas-token.ts';
import { hmacSha256 } from '../../../../src/platform/hmac.ts';
import { HUB, hubRig, refusalOf, type HubRig } from '../../../support/hub.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const CLOUD = 'plant.azure-devices.test';
const KEY = Buffer.alloc(32, 5).toString('base64');
const D1 = { deviceId: 'd1' } as const;

type Answer = (asked: TwinRequest, signal: AbortSignal) => unknown;

interface WriteRig extends HubRig {
  readonly asked: TwinRequest[];
  readonly twins: Pick<HubTwins, 'patch' | 'replace' | 'get'>;
  /** Versions of desired properties that the device was told. */
  readonly told: () => unknown[];
}

/** A device of the cloud is logged in; the cloud answers a service by `answer`. */
async function rig(answer: Answer): Promise<WriteRig> {
  const asked: TwinRequest[] = [];
  const clock = new ManualClock();
  const hub = await hubRig({
    clock,
    cloud: () => ({
      hostName: CLOUD,
      keysOf: () => Promise.resolve([KEY]),
      askTwin: async (_, request, signal) => {
        asked.push(request);
        return answer(request, signal);
      },
    }),
  });
  await hub.hub.policiesOf(HUB).all();
  const resource = `${CLOUD}/devices/d1`;
  const token = makeSasToken({ resource, key: KEY, expiresAtMs: clock.wallMs() + 60_000 }, { hmacSha256 });
  await hub.connect(D1, { token, interests: ['desired'] });
  const told = (): unknown[] => hub.sent.flatMap((item) => (item.kind === 'desired' ? [item.version] : []));
  return { ...hub, asked, twins: hub.hub.twins, told };
}

const document = (version: number, desired: JsonObject, tags: JsonObject = {}, etag = 'there'): unknown => ({
  etag,
  tags,
  properties: { desired: { ...desired, $metadata: {}, $version: version }, reported: { $version: 1 } },
});

describe('twins of devices of the cloud, written by a local service', () => {
  it('are written there with its ETag where it holds, and stand here when the write has ended', async () => {
    const answers = [document(5, { a: 1 }, { t: 1 }), document(5, { a: 1 }, { t: 1 }, 'e5'), document(6, { a: 2 })];
    const { asked, told, twins } = await rig(() => answers.shift());
    const first = await twins.patch(HUB, D1, { desired: { a: 1 }, tags: { t: 1 } }, '*');
    expect(first).toMatchObject({ tags: { t: 1 }, properties: { desired: { a: 1, $version: 5 } } });
    const second = await twins.replace(HUB, D1, { desired: { a: 2 } }, String(first['etag']));
    expect(second).toMatchObject({ tags: {}, properties: { desired: { a: 2, $version: 6 } } });
    expect(second['etag']).not.toBe(first['etag']);
    expect(asked).toEqual([
      { method: 'PATCH', update: { desired: { a: 1 }, tags: { t: 1 } }, ifMatch: '*' },
      { method: 'GET' },
      { method: 'PUT', update: { desired: { a: 2 }, tags: {} }, ifMatch: 'e5' },
    ]);
    await turn();
    expect(told()).toEqual([5, 6]);
  });

  it('are not written by an ETag that is of another twin, here or there', async () => {
    const { asked, twins } = await rig(() => document(3, {}, { moved: true }));
    expect(await refusalOf(twins.patch(HUB, D1, { desired: { a: 1 } }, 'AAAAAAAAAAk='))).toBe('PreconditionFailed');
    expect(asked).toEqual([]);
    const { etag } = await twins.get(HUB, D1);
    expect(await refusalOf(twins.patch(HUB, D1, { desired: { a: 1 } }, String(etag)))).toBe('PreconditionFailed');
    expect(asked).toEqual([{ method: 'GET' }]);
    // Who reads it again reads what the cloud has.
    expect(await twins.get(HUB, D1)).toMatchObject({ tags: { moved: true }, properties: { desired: { $version: 3 } } });
  });

  it('do not go back to what a late answer says', async () => {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    const { hub, twins } = await rig(() => promise);
    const written = twins.patch(HUB, D1, { desired: { a: 1 } }, '*');
    await turn();
    await hub.cloudTwins?.take('d1' as never, { version: 9, desired: { a: 2 }, reported: {}, reportedVersion: 1 });
    resolve(document(8, { a: 1 }));
    expect(await written).toMatchObject({ properties: { desired: { a: 2, $version: 9 } } });
  });

  it('are refused as the cloud refuses them, and unavailable while it gives no answer that can be used', async () => {
    const answers = [
      iotHubError('IotHubQuotaExceeded', 'Full.'),
      new GatewayError('GW_CONNECT', 'Nobody is there.'),
      document(5, { 'a.b': 1 }),
    ];
    const { twins } = await rig(() => {
      const next = answers.shift();
      if (next instanceof Error) throw next;
      return next;
    });
    const write = (): Promise<unknown> => twins.patch(HUB, D1, { desired: { a: 1 } }, '*');
    expect(await refusalOf(write())).toBe('IotHubQuotaExceeded');
    expect(await refusalOf(write())).toBe('ServiceUnavailable');
    expect(await refusalOf(write())).toBe('ServiceUnavailable');
  });

  it('wait for a cloud that is silent no longer than 15 s, the next ones neither', async () => {
    const { asked, clock, twins } = await rig(
      (_, signal) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('Given up.')))),
    );
    const refused = [1, 2].map(async (a) => refusalOf(twins.patch(HUB, D1, { desired: { a } }, '*')));
    await turn();
    clock.advance(15_000);
    expect(await Promise.all(refused)).toEqual(['ServiceUnavailable', 'ServiceUnavailable']);
    expect(asked).toHaveLength(1);
  });
});
