import { describe, expect, it } from 'vitest';
import type { CloudIdentities, DeviceKeys } from '../../../../src/core/endpoint.ts';
import type { LoginRequest } from '../../../../src/core/hub/access.ts';
import { makeSasToken } from '../../../../src/iothub/sas-token.ts';
import { hmacSha256 } from '../../../../src/platform/hmac.ts';
import { HOST, HUB, hubRig, refusalOf, type HubRig } from '../../../support/hub.ts';

const CLOUD = 'Plant.Azure-Devices.test';
const keyOf = (fill: number): string => Buffer.alloc(32, fill).toString('base64');

interface CloudRig extends HubRig {
  /** Keys that the gateway has; a device without one is nobody at the cloud. */
  readonly keys: Map<string, string>;
  /** Undefined: the upstream leads to no hub. */
  setCloud(is: 'there' | 'none' | 'unknown'): void;
  signed(deviceId: string, key: string, more?: Partial<LoginRequest> & { readonly host?: string }): Promise<unknown>;
}

async function cloudRig(ask?: CloudIdentities['askKeysOf']): Promise<CloudRig> {
  const keys = new Map<string, string>();
  let is = 'there';
  const rig = await hubRig({
    cloud: () =>
      is === 'none'
        ? undefined
        : {
            hostName: CLOUD,
            keysOf: (deviceId) => {
              const key = keys.get(deviceId);
              return is === 'unknown'
                ? Promise.reject(new Error('away'))
                : Promise.resolve(key === undefined ? undefined : [key]);
            },
            ...(ask !== undefined && { askKeysOf: ask }),
          },
  });
  await rig.hub.policiesOf(HUB).all();
  return {
    ...rig,
    keys,
    setCloud: (next) => void (is = next),
    signed(deviceId, key, { host = CLOUD, ...more } = {}) {
      const resource = `${host}/devices/${deviceId}`;
      const token = makeSasToken({ resource, key, expiresAtMs: rig.clock.wallMs() + 60_000 }, { hmacSha256 });
      const credential = { kind: 'sas', token } as const;
      return rig.hub.access.login({
        hostName: 'gateway.local',
        remoteAddress: '127.0.0.1',
        protocol: 'amqp',
        credential,
        ...more,
      });
    },
  };
}

const isRegistered = ({ hub }: HubRig, deviceId: string): Promise<boolean> =>
  hub.identities.device(HUB, deviceId).then(
    () => true,
    () => false,
  );

describe('devices of a cloud behind the hub', () => {
  it('are let in by tokens made for it, with the keys that the gateway has, and are registered by that', async () => {
    const rig = await cloudRig();
    rig.keys.set('d1', keyOf(1));
    expect(await rig.signed('d1', keyOf(1), { claimed: { deviceId: 'd1' } })).toMatchObject({
      kind: 'device',
      identity: { deviceId: 'd1' },
    });
    const { authentication, status } = await rig.hub.identities.device(HUB, 'd1');
    expect([authentication, status]).toEqual([
      { type: 'sas', symmetricKey: { primaryKey: keyOf(1), secondaryKey: keyOf(1) } },
      'enabled',
    ]);
    // By the hub's own name as well, and named by the audience alone.
    expect(await rig.signed('d1', keyOf(1), { host: HOST })).toMatchObject({ kind: 'device' });
    // All at once for the first time.
    rig.keys.set('d2', keyOf(2));
    await Promise.all([1, 2, 3].map(() => rig.signed('d2', keyOf(2))));
  });

  it('are not let in, nor registered, with another key, name or hub', async () => {
    const rig = await cloudRig();
    rig.keys.set('d1', keyOf(1));
    expect(await refusalOf(rig.signed('d1', keyOf(2)))).toBe('DeviceNotFound');
    expect(await refusalOf(rig.signed('d2', keyOf(1)))).toBe('DeviceNotFound');
    expect(await refusalOf(rig.signed('d1', keyOf(1), { host: 'else.where' }))).toBe('IotHubUnauthorizedAccess');
    rig.setCloud('none');
    expect(await refusalOf(rig.signed('d1', keyOf(1)))).toBe('IotHubUnauthorizedAccess');
    expect(await refusalOf(rig.signed('d1', keyOf(1), { host: HOST }))).toBe('DeviceNotFound');
    expect(await isRegistered(rig, 'd1')).toBe(false);
  });

  it('are let in while the cloud cannot say what their keys are, once they have been in', async () => {
    const rig = await cloudRig();
    rig.keys.set('d1', keyOf(1)).set('d2', keyOf(2));
    await rig.signed('d1', keyOf(1));
    rig.setCloud('unknown');
    expect(await rig.signed('d1', keyOf(1))).toMatchObject({ kind: 'device' });
    await expect(rig.signed('d2', keyOf(2))).rejects.toThrow('away');
    expect(await isRegistered(rig, 'd2')).toBe(false);
    rig.setCloud('none');
    expect(await rig.signed('d1', keyOf(1), { host: HOST })).toMatchObject({ kind: 'device' });
  });

  it('follow their keys: another one, none, and one again', async () => {
    const rig = await cloudRig();
    const { hub, keys } = rig;
    keys.set('d1', keyOf(1));
    const open = async (key: string) => {
      const principal = (await rig.signed('d1', key)) as Awaited<ReturnType<HubRig['login']>>;
      return hub.sessions.open('test', { principal, protocol: 'amqp', remoteAddress: '127.0.0.1', persistent: false });
    };
    await open(keyOf(1));
    await hub.cloudChanged();
    expect(hub.sessionsOf(HUB)).toHaveLength(1);
    keys.set('d1', keyOf(2));
    await hub.cloudChanged();
    expect(hub.sessionsOf(HUB)).toHaveLength(0);
    expect(await refusalOf(rig.signed('d1', keyOf(1)))).toBe('IotHubUnauthorizedAccess');
    await open(keyOf(2));
    keys.delete('d1');
    await hub.cloudChanged();
    expect(hub.sessionsOf(HUB)).toHaveLength(0);
    expect(await refusalOf(rig.signed('d1', keyOf(2)))).toBe('IotHubUnauthorizedAccess');
    keys.set('d1', keyOf(3));
    expect(await rig.signed('d1', keyOf(3))).toMatchObject({ kind: 'device' });
  });

  it('have their keys asked for where none is known, or others than they come with', async () => {
    const asked: string[] = [];
    let answer: DeviceKeys | 'away' | undefined;
    const rig = await cloudRig((deviceId) => {
      asked.push(deviceId);
      return answer === 'away' ? Promise.reject(new Error('away')) : Promise.resolve(answer);
    });
    expect(await refusalOf(rig.signed('d1', keyOf(1)))).toBe('DeviceNotFound');
    answer = [keyOf(1), keyOf(2)];
    expect(await refusalOf(rig.signed('d1', keyOf(3)))).toBe('DeviceNotFound');
    expect(await isRegistered(rig, 'd1')).toBe(false);
    // Either of its two.
    for (const fill of [2, 1]) expect(await rig.signed('d1', keyOf(fill))).toMatchObject({ kind: 'device' });
    expect(asked).toHaveLength(3);
    // The last that are known let it in while nobody can be asked, and nobody else.
    answer = 'away';
    await rig.hub.cloudChanged();
    expect(await rig.signed('d1', keyOf(1))).toMatchObject({ kind: 'device' });
    expect(await refusalOf(rig.signed('d1', keyOf(3)))).toBe('IotHubUnauthorizedAccess');
    // The device has others by now.
    answer = [keyOf(3), keyOf(2)];
    expect(await rig.signed('d1', keyOf(3))).toMatchObject({ kind: 'device' });
    expect(await refusalOf(rig.signed('d1', keyOf(1)))).toBe('IotHubUnauthorizedAccess');
  });

  it('stay out where the local hub has disabled them', async () => {
    const rig = await cloudRig();
    rig.keys.set('d1', keyOf(1));
    await rig.signed('d1', keyOf(1));
    await rig.hub.identities.putDevice(HUB, { deviceId: 'd1', status: 'disabled' }, '*');
    rig.keys.set('d1', keyOf(2));
    expect(await refusalOf(rig.signed('d1', keyOf(2)))).toBe('DeviceDisabled');
  });

  it('leave devices alone that were registered by hand', async () => {
    const rig = await cloudRig();
    await rig.hub.identities.putDevice(HUB, { deviceId: 'd1' }, undefined);
    rig.keys.set('d1', keyOf(1));
    expect(await refusalOf(rig.signed('d1', keyOf(1)))).toBe('IotHubUnauthorizedAccess');
    const { authentication } = await rig.hub.identities.device(HUB, 'd1');
    const key = authentication.type === 'sas' ? authentication.symmetricKey.primaryKey : '';
    expect(await rig.signed('d1', key)).toMatchObject({ kind: 'device' });
  });
});
