// The twins of a gateway and its leaf devices at a hub.

import { describe, expect, it } from 'vitest';
import type { UpstreamTransport } from '../../src/core/endpoint.ts';
import { GatewayError } from '../../src/core/errors.ts';
import { GOOD } from '../../src/core/reading.ts';
import { deriveDeviceKey } from '../../src/iothub/group-key.ts';
import { hmacSha256 } from '../../src/platform/hmac.ts';
import type { StateStore } from '../../src/store/state/state-store.ts';
import { message } from '../support/builders.ts';
import { HUB } from '../support/hub.ts';
import { clockWithRenewals, HUB_DEVICE, iotHubRig, type IotHubRig } from '../support/iothub-upstream.ts';
import { memoryStateStore } from '../support/state.ts';
import { attachTwinsRig, METER, type TwinsRig } from '../support/twins-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.152.2';
const NEVER = new AbortController().signal;
const GROUP_KEY = Buffer.alloc(64, 3).toString('base64');

interface TwinRig extends AsyncDisposable {
  readonly hub: IotHubRig;
  readonly transport: UpstreamTransport;
  /** The gateway's own side. */
  readonly field: TwinsRig;
  readonly state: StateStore;
  /** Changes desired properties at the hub. */
  desire(desired: unknown): Promise<void>;
  /** What the hub has: the reported properties, without what the service adds. */
  reported(): Promise<unknown>;
  /** Versions of desired and reported properties at the hub. */
  versions(): Promise<readonly [desired: number, reported: number]>;
  /** The same gateway after a restart: another transport over the same state. */
  restart(): Promise<void>;
  renew(): void;
}

/** @param owner whose twin it is: the gateway's, or that of the meter. */
async function twinRig(over: 'mqtt' | 'amqp', owner: 'gateway' | 'meter' = 'gateway'): Promise<TwinRig> {
  const hub = await iotHubRig(ADDRESS, over);
  const { hub: service } = hub.hub.hub;
  const deviceId = owner === 'gateway' ? HUB_DEVICE : METER;
  if (owner === 'meter') {
    const primaryKey = deriveDeviceKey(GROUP_KEY, METER, { hmacSha256 });
    const authentication = { type: 'sas', symmetricKey: { primaryKey, secondaryKey: primaryKey } } as const;
    await service.identities.putDevice(HUB, { deviceId, authentication }, undefined);
  }
  const perDevice = over === 'mqtt' ? { per_device: true } : {};
  const leaves = { leaf_devices: { identity: 'group_key', group_key: GROUP_KEY, ...perDevice } } as const;
  const { clock, renewals } = clockWithRenewals(hub.clock);
  const state = await memoryStateStore();
  const create = () => {
    const transport = hub.transport(owner === 'gateway' ? {} : leaves, clock);
    return { transport, field: attachTwinsRig(transport, state, clock) };
  };
  const own = async (): Promise<Record<'desired' | 'reported', Record<string, unknown>>> =>
    JSON.parse(Buffer.from(await service.twins.own(HUB, { deviceId })).toString()) as never;
  const rig = {
    hub,
    state,
    ...create(),
    desire: async (desired: unknown) => {
      await service.twins.patch(HUB, { deviceId }, { desired }, '*');
    },
    reported: async () => {
      const { $version: _, ...reported } = (await own()).reported;
      return reported;
    },
    versions: async () => {
      const { desired, reported } = await own();
      return [desired['$version'] as number, reported['$version'] as number] as const;
    },
    restart: async () => {
      rig.field.twins?.stop();
      await rig.transport.close();
      Object.assign(rig, create());
    },
    renew: () => renewals.at(-1)?.(),
    [Symbol.asyncDispose]: async () => {
      rig.field.twins?.stop();
      await rig.transport.close();
      await hub[Symbol.asyncDispose]();
    },
  };
  return rig;
}

const meter = (values: unknown) => ({ devices: { [METER]: values } });
const valuesOf = ({ field }: TwinRig) => field.written.map(({ point, value }) => `${point}=${String(value)}`);

describe.each(['mqtt', 'amqp'] as const)('the twin of the gateway over %s', (over) => {
  it('has what is desired of leaf devices written, and what they confirm reported', async () => {
    await using rig = await twinRig(over);
    await rig.desire(meter({ relay: true }));
    await rig.transport.open(NEVER);
    await expect.poll(() => rig.reported()).toEqual(meter({ relay: true }));
    await rig.desire(meter({ level: 40 }));
    await expect.poll(() => rig.reported()).toEqual(meter({ relay: true, level: 40 }));
    expect(valuesOf(rig)).toEqual(['relay=true', 'level=40']);
    const [first] = await rig.field.dispatcher.audit({ limit: 1 });
    expect(first).toMatchObject({ actor: 'upstream:$upstream:desired', answer: { status: 200 } });
  });

  it('says why something desired is not so', async () => {
    await using rig = await twinRig(over);
    await rig.transport.open(NEVER);
    await rig.desire({ ...meter({ level: 400, count: 1, colour: 'red', relay: [1] }), config: { any: 'thing' } });
    const refused = (ad: RegExp) => ({ ac: 400, av: 2, ad: expect.stringMatching(ad) as unknown });
    await expect
      .poll(() => rig.reported())
      .toEqual(
        meter({
          level: refused(/100/),
          count: refused(/cannot be written/),
          colour: refused(/no point of this name/),
          relay: refused(/a number, a boolean or a text/),
        }),
      );
    expect(rig.field.written).toEqual([]);
    await rig.desire({ devices: { nobody: { relay: true } } });
    await expect.poll(() => rig.reported()).toMatchObject({ devices: { nobody: { relay: { ac: 404, av: 3 } } } });
    // Taken back when it is not desired any more, and replaced when it is so.
    await rig.desire({ devices: { nobody: null, [METER]: { level: 40, count: null, colour: null, relay: null } } });
    await expect.poll(() => rig.reported()).toEqual({ devices: { [METER]: { level: 40 }, nobody: {} } });
  });

  it('is fetched whole after a gap, and at once after the connection was lost', async () => {
    await using rig = await twinRig(over);
    await rig.transport.open(NEVER);
    await rig.desire(meter({ relay: true }));
    await expect.poll(() => rig.reported()).toEqual(meter({ relay: true }));
    rig.hub.proxy.cut();
    await rig.transport.closed();
    await rig.desire(meter({ relay: false }));
    await rig.desire(meter({ level: 7 }));
    await rig.transport.open(NEVER);
    await expect.poll(() => rig.reported()).toEqual(meter({ relay: false, level: 7 }));
    expect(valuesOf(rig)).toEqual(['relay=true', 'relay=false', 'level=7']);
  });

  it('takes nothing twice, whatever comes again', async () => {
    await using rig = await twinRig(over);
    await rig.desire(meter({ relay: true, level: 3 }));
    await rig.transport.open(NEVER);
    await expect.poll(() => rig.reported()).toEqual(meter({ relay: true, level: 3 }));
    await rig.restart();
    await rig.transport.open(NEVER);
    await rig.desire(meter({ level: 4 }));
    await expect.poll(() => rig.reported()).toEqual(meter({ relay: true, level: 4 }));
    expect(valuesOf(rig)).toEqual(['level=4']);
    rig.renew();
    await rig.desire(meter({ level: 5 }));
    await expect.poll(() => rig.reported()).toEqual(meter({ relay: true, level: 5 }));
    expect(valuesOf(rig)).toEqual(['level=4', 'level=5']);
  });

  it('makes of a hundred patches as many writes as a busy device takes, and few reports', async () => {
    await using rig = await twinRig(over);
    await rig.transport.open(NEVER);
    await rig.desire(meter({ relay: true }));
    await expect.poll(() => rig.reported()).toEqual(meter({ relay: true }));
    const gate = Promise.withResolvers<void>();
    rig.field.device = async ({ value }) => {
      await gate.promise;
      return { readBack: value, quality: GOOD };
    };
    for (let level = 1; level <= 100; level += 1) await rig.desire(meter({ level }));
    await waitFor(() => rig.field.written.length === 2);
    gate.resolve();
    await expect.poll(() => rig.reported()).toEqual(meter({ relay: true, level: 100 }));
    // Some of them may still have been on their way when the device had time again.
    expect(rig.field.written.length).toBeLessThanOrEqual(25);
    const [desired, reported] = await rig.versions();
    expect(desired).toBe(102);
    expect(reported).toBeLessThanOrEqual(25);
  });

  it('waits for a device that is away, over a restart and without the hub', async () => {
    await using rig = await twinRig(over);
    rig.field.registry.report(METER, 'offline', 'timeout');
    await rig.desire(meter({ relay: true }));
    await rig.transport.open(NEVER);
    await waitFor(async () => (await rig.state.space('upstream-twins').get('gateway-1')) !== undefined);
    await rig.restart();
    // A rig begins with a device that is good; there is no connection.
    await waitFor(() => rig.field.written.length === 1);
    await rig.transport.open(NEVER);
    await expect.poll(() => rig.reported()).toEqual(meter({ relay: true }));
    expect(valuesOf(rig)).toEqual(['relay=true']);
  });

  it('writes again what a busy device did not take, and not what it refused', async () => {
    await using rig = await twinRig(over);
    let refusals = 1;
    rig.field.device = ({ point, value }) => {
      if (point === 'level') return Promise.reject(new GatewayError('GW_MODBUS_EXCEPTION', 'Illegal value.'));
      if ((refusals -= 1) >= 0) return Promise.reject(new GatewayError('GW_DEVICE_OFFLINE', 'It is away.'));
      return Promise.resolve({ readBack: value, quality: GOOD });
    };
    await rig.desire(meter({ relay: true, level: 1 }));
    await rig.transport.open(NEVER);
    await expect
      .poll(() => rig.reported(), { timeout: 10_000 })
      .toEqual(meter({ relay: true, level: { ac: 502, av: 2, ad: 'Illegal value.' } }));
    expect(valuesOf(rig).sort()).toEqual(['level=1', 'relay=true', 'relay=true']);
  });

  it('reports over a restart what it could not when the connection was lost', async () => {
    await using rig = await twinRig(over);
    const gate = Promise.withResolvers<void>();
    rig.field.device = async ({ value }) => {
      await gate.promise;
      return { readBack: value, quality: GOOD };
    };
    await rig.desire(meter({ relay: true }));
    await rig.transport.open(NEVER);
    await waitFor(() => rig.field.written.length === 1);
    rig.hub.proxy.cut();
    await rig.transport.closed();
    gate.resolve();
    const kept = async () => Buffer.from((await rig.state.space('upstream-twins').get('gateway-1')) ?? '').toString();
    await waitFor(async () => (await kept()).includes('"reported":{"devices":{"meter-1":{"relay":true}}}'));
    await rig.restart();
    await rig.transport.open(NEVER);
    await expect.poll(() => rig.reported()).toEqual(meter({ relay: true }));
    expect(rig.field.written).toEqual([]);
  });

  it('reports what a method has written', async () => {
    await using rig = await twinRig(over);
    await rig.transport.open(NEVER);
    const payload = Buffer.from(JSON.stringify({ device_id: METER, values: { relay: true } }));
    const call = { name: 'writePoint', payload, responseTimeoutMs: 30_000, connectTimeoutMs: 10_000 };
    await rig.hub.hub.hub.hub.methods.invoke(HUB, { deviceId: HUB_DEVICE }, call);
    await expect.poll(() => rig.reported()).toEqual(meter({ relay: true }));
  });
});

describe.each(['mqtt', 'amqp'] as const)('the twin of a leaf device with an identity of its own over %s', (over) => {
  it('has its points beside what others have put there', async () => {
    await using rig = await twinRig(over, 'meter');
    await rig.hub.hub.hub.hub.twins.report(HUB, { deviceId: METER }, Buffer.from('{"serial":"A7","relay":{"ac":400}}'));
    await rig.desire({ relay: true });
    await rig.transport.open(NEVER);
    await rig.transport.send(
      [{ offset: 1, seq: 1, epoch: 'e', messageId: 'm', message: message({ device: METER, text: 'x' }) }],
      NEVER,
    );
    await expect.poll(() => rig.reported()).toEqual({ serial: 'A7', relay: true });
    await rig.desire({ level: 9 });
    await expect.poll(() => rig.reported()).toEqual({ serial: 'A7', relay: true, level: 9 });
    expect(valuesOf(rig)).toEqual(['relay=true', 'level=9']);
  });
});
