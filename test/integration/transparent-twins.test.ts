// Twins through the transparent gateway: unmodified device SDKs at the gateway, an unmodified back end at the cloud, which is a second
// daemon. What is desired comes from the cloud, what is reported goes there, with the cloud there or away.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTcpProxy, type TcpProxy } from '../sim/tcp-proxy.ts';
import {
  AMQPS_PORT,
  HTTPS_PORT,
  HUB_HOST_NAME,
  MQTTS_PORT,
  startHubDaemon,
  type HubDaemon,
  type HubDaemonOptions,
} from '../support/hub-daemon.ts';
import { startBackEnd, startDevice, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { derivedKey, GATEWAY_KEY, GROUP_KEY, transparentGateway } from '../support/transparent-rig.ts';

const CLOUD = '127.0.160.1';
const EDGE = '127.0.160.2';
/** A policy that makes devices, and may not write their twins. */
const MAKERS = { rights: ['RegistryRead', 'RegistryWrite'], primary_key: Buffer.alloc(32, 8).toString('base64') };
const DEVICES = { mqtt: 'twin-mqtt', amqp: 'twin-amqp' } as const;

interface Section {
  readonly $version: number;
  readonly [name: string]: unknown;
}
interface Properties {
  readonly desired: Section;
  readonly reported: Section;
}

interface ServiceTwin {
  readonly etag: string;
  readonly tags: object;
  readonly properties: Properties;
}

interface Identity {
  readonly authentication: { readonly symmetricKey: { readonly primaryKey: string; readonly secondaryKey: string } };
}

/**
 * Over AMQP one connection carries all of them, here with the keys that the cloud's registry has; over MQTT each has its own, here
 * with derived keys.
 */
const UPSTREAMS = process.env['FIELDPOST_FULL'] === '1' ? (['amqp', 'mqtt'] as const) : (['amqp'] as const);

describe.each(UPSTREAMS)('twins through a transparent gateway with its upstream over %s', (protocol) => {
  const stack = new AsyncDisposableStack();
  let cloud: HubDaemon;
  let edge: HubDaemon;
  let directory: TempDir;
  let proxy: TcpProxy;
  let registryProxy: TcpProxy;
  const keys = new Map<string, string>();
  let backEnd: SdkChild;

  const edgeOptions = (policy = cloud.owner): HubDaemonOptions =>
    transparentGateway({
      address: EDGE,
      directory,
      dials: CLOUD,
      ca: cloud.authority,
      upstream: {
        port: proxy.port,
        protocol,
        leaf_devices:
          protocol === 'mqtt'
            ? { identity: 'group_key', group_key: GROUP_KEY, per_device: true }
            : { identity: 'registry', registry: policy, registry_port: registryProxy.port },
      },
    });

  beforeAll(async () => {
    const cloudDirectory = stack.use(createTempDir('twins-cloud'));
    directory = stack.use(createTempDir('twins-edge'));
    cloud = stack.use(
      await startHubDaemon({ address: CLOUD, directory: cloudDirectory, policies: { makers: MAKERS } }),
    );
    const port = protocol === 'amqp' ? AMQPS_PORT : MQTTS_PORT;
    proxy = stack.use(await startTcpProxy({ target: { host: CLOUD, port }, address: CLOUD }));
    registryProxy = stack.use(await startTcpProxy({ target: { host: CLOUD, port: HTTPS_PORT }, address: CLOUD }));
    backEnd = stack.use(startBackEnd({ hub: cloud }));
    await backEnd.call('openRegistry', cloud.owner);
    const own = { symmetricKey: { primaryKey: GATEWAY_KEY, secondaryKey: GATEWAY_KEY } };
    await backEnd.call('registry', 'create', { deviceId: 'plant-7', authentication: own });
    for (const deviceId of Object.values(DEVICES)) {
      const authentication = protocol === 'mqtt' && { symmetricKey: { primaryKey: derivedKey(deviceId) } };
      const made = await backEnd.call('registry', 'create', { deviceId, ...(authentication && { authentication }) });
      const { primaryKey, secondaryKey } = (made as Identity).authentication.symmetricKey;
      keys.set(deviceId, protocol === 'amqp' && deviceId === DEVICES.mqtt ? secondaryKey : primaryKey);
    }
    edge = stack.use(await startHubDaemon(edgeOptions()));
  }, 120_000);

  afterAll(() => stack.disposeAsync());

  const refuse = (): Promise<unknown> => Promise.all([proxy.refuse(), registryProxy.refuse()]);
  const listen = (): Promise<unknown> => Promise.all([proxy.listen(), registryProxy.listen()]);
  const open = async (deviceId: string, transport: string, key = keys.get(deviceId) ?? ''): Promise<SdkChild> => {
    const child = startDevice({ hub: { address: CLOUD, authorityPath: edge.authorityPath } });
    const gateway = `HostName=${HUB_HOST_NAME};GatewayHostName=${EDGE}`;
    await child.call('open', `${gateway};DeviceId=${deviceId};SharedAccessKey=${key}`, transport);
    return child;
  };
  const openLocal = async (): Promise<SdkChild> => {
    const local = startBackEnd({ hub: { address: EDGE, authorityPath: edge.authorityPath } });
    await local.call('openRegistry', edge.owner.replace(HUB_HOST_NAME, EDGE));
    return local;
  };
  const serviceTwin = (service: SdkChild, deviceId: string): Promise<ServiceTwin> =>
    service.call('registry', 'getTwin', deviceId) as Promise<ServiceTwin>;
  const twinOf = (child: SdkChild): Promise<Properties> => child.call('getTwin') as Promise<Properties>;
  /** As the cloud has it. */
  const cloudTwin = async (deviceId: string): Promise<Properties> => {
    return (await serviceTwin(backEnd, deviceId)).properties;
  };
  const desire = async (deviceId: string, desired: object): Promise<number> => {
    await backEnd.call('registry', 'updateTwin', deviceId, { properties: { desired } }, '*');
    return (await cloudTwin(deviceId)).desired.$version;
  };
  const reported = async (deviceId: string): Promise<unknown> => {
    const { $metadata: _, $version: __, ...values } = (await cloudTwin(deviceId)).reported;
    return values;
  };

  describe.each(Object.entries(DEVICES))('of a device on %s', (transport, deviceId) => {
    it('are those of the cloud when the device comes, change when they change there, and are reported', async () => {
      const before = await desire(deviceId, { speed: 1, mode: { day: 'slow' } });
      await using child = await open(deviceId, transport);
      expect(await twinOf(child)).toMatchObject({
        desired: { speed: 1, mode: { day: 'slow' }, $version: before },
      });
      await child.call('onDesired');
      const version = await desire(deviceId, { speed: 2, mode: { night: 'off' } });
      const isNew = ({ $version }: Section): boolean => $version === version;
      expect(await child.nextEvent('desired', isNew)).toEqual({ speed: 2, mode: { night: 'off' }, $version: version });
      await child.call('report', { speed: 2, fw: { major: 3, minor: 1 } });
      await expect.poll(() => reported(deviceId)).toEqual({ speed: 2, fw: { major: 3, minor: 1 } });
      await child.call('report', { fw: { minor: null } });
      await expect.poll(() => reported(deviceId)).toEqual({ speed: 2, fw: { major: 3 } });
    });

    it('that changed while the device was away are there when it is back', async () => {
      const version = await desire(deviceId, { speed: 3, mode: null });
      await using child = await open(deviceId, transport);
      const { desired } = await twinOf(child);
      expect(desired).toMatchObject({ speed: 3, $version: version });
      expect(desired).not.toHaveProperty('mode');
    });

    it('go on while the cloud is away, and are told once what changed there when it is back', async () => {
      await using child = await open(deviceId, transport);
      const known = await twinOf(child);
      await child.call('onDesired');
      await refuse();
      // What nobody here can know of.
      await desire(deviceId, { speed: 4 });
      await desire(deviceId, { speed: 5, late: true });
      const version = await desire(deviceId, { speed: 6 });
      await child.call('report', { away: 1 });
      await child.call('report', { away: 2, also: 'this' });
      const meanwhile = await twinOf(child);
      expect(meanwhile.desired).toEqual(known.desired);
      expect(meanwhile.reported).toMatchObject({ away: 2, also: 'this', $version: known.reported.$version + 2 });
      const atCloud = await cloudTwin(deviceId);
      expect(atCloud.reported).not.toHaveProperty('away');
      await listen();
      const isNew = ({ $version }: Section): boolean => $version === version;
      expect(await child.nextEvent('desired', isNew)).toEqual({ speed: 6, late: true, $version: version });
      await expect.poll(() => reported(deviceId)).toMatchObject({ speed: 2, away: 2, also: 'this' });
      // Both in one.
      expect((await cloudTwin(deviceId)).reported.$version).toBe(atCloud.reported.$version + 1);
      // The SDK tells whatever it fetches as well.
      const told = child.events.filter(({ event, data }) => event === 'desired' && isNew(data as Section));
      expect(told).toHaveLength(1);
    });
  });

  it('lose nothing that was reported when the gateway is killed while the cloud and the device are away', async () => {
    const children = await Promise.all(Object.entries(DEVICES).map(([transport, id]) => open(id, transport)));
    await Promise.all(children.map(twinOf));
    await refuse();
    for (const child of children) {
      await child.call('report', { fw: null, kept: 'over kill -9' });
      await child.kill();
    }
    await edge.kill('SIGKILL');
    edge = stack.use(await startHubDaemon(edgeOptions()));
    const version = await desire(DEVICES.mqtt, { speed: 7 });
    // The last key that was known lets the device in.
    await (await open(DEVICES.amqp, 'amqp')).kill();
    await listen();
    for (const deviceId of Object.values(DEVICES)) {
      await expect.poll(() => reported(deviceId), { timeout: 20_000 }).toMatchObject({ kept: 'over kill -9' });
      expect(await reported(deviceId)).not.toHaveProperty('fw');
    }
    await using child = await open(DEVICES.mqtt, 'mqtt');
    const twin = await twinOf(child);
    expect(twin).toMatchObject({ desired: { speed: 7, $version: version }, reported: { kept: 'over kill -9' } });
  });

  it.runIf(protocol === 'amqp')(
    'are of nobody whom the registry does not have, and nobody is made for that',
    async () => {
      await expect(open('stranger', 'amqp', GATEWAY_KEY)).rejects.toMatchObject({ name: 'UnauthorizedError' });
      await expect(open(DEVICES.amqp, 'amqp', GATEWAY_KEY)).rejects.toMatchObject({ name: 'UnauthorizedError' });
      await expect(backEnd.call('registry', 'get', 'stranger')).rejects.toMatchObject({ statusCode: 404 });
    },
  );

  it.runIf(protocol === 'amqp')('are of the device that has another key at the cloud by now', async () => {
    const known = (await backEnd.call('registry', 'get', DEVICES.mqtt)) as Identity & object;
    const primaryKey = Buffer.alloc(32, 77).toString('base64');
    const authentication = { symmetricKey: { primaryKey, secondaryKey: primaryKey } };
    await backEnd.call('registry', 'update', { ...known, authentication });
    await using child = await open(DEVICES.mqtt, 'mqtt', primaryKey);
    await twinOf(child);
    await child.call('report', { rolled: true });
    await expect.poll(() => reported(DEVICES.mqtt), { timeout: 20_000 }).toMatchObject({ rolled: true });
  });

  it.runIf(protocol === 'mqtt')('cannot be desired of at a gateway that has no rights to at the cloud', async () => {
    await using local = await openLocal();
    const write = local.call('registry', 'updateTwin', DEVICES.amqp, { properties: { desired: { speed: 0 } } }, '*');
    await expect(write).rejects.toMatchObject({ statusCode: 503 });
  });

  describe.runIf(protocol === 'amqp')('desired of at the gateway', () => {
    const deviceId = DEVICES.amqp;

    it('are written at the cloud, are there and here the same, and are told the device once', async () => {
      await using child = await open(deviceId, 'amqp');
      await twinOf(child);
      await child.call('onDesired');
      await using local = await openLocal();
      const patch = { tags: { line: 4 }, properties: { desired: { speed: 8, by: 'plant' } } };
      await local.call('registry', 'updateTwin', deviceId, patch, '*');
      const there = await serviceTwin(backEnd, deviceId);
      const { $version } = there.properties.desired;
      const isNew = (desired: Section): boolean => desired.$version === $version;
      expect(there).toMatchObject({ tags: { line: 4 }, properties: { desired: { speed: 8, by: 'plant' } } });
      expect(await serviceTwin(local, deviceId)).toMatchObject({
        tags: { line: 4 },
        properties: { desired: { speed: 8, by: 'plant', $version } },
      });
      expect(await child.nextEvent('desired', isNew)).toMatchObject({ speed: 8, by: 'plant', $version });
      // By the cloud's own way to the device it comes as well, and must not reach it again.
      const next = await desire(deviceId, { speed: 9 });
      await child.nextEvent('desired', (desired: Section) => desired.$version === next);
      const told = child.events.filter(({ event, data }) => event === 'desired' && isNew(data as Section));
      expect(told).toHaveLength(1);
    });

    it('hold to the ETag of the gateway, which is none any more when the cloud has changed', async () => {
      await using local = await openLocal();
      const update = (etag: string, desired: object): Promise<unknown> =>
        local.call('registry', 'updateTwin', deviceId, { properties: { desired } }, etag);
      const { etag } = await serviceTwin(local, deviceId);
      await update(etag, { speed: 10 });
      await expect(update(etag, { speed: 0 })).rejects.toMatchObject({ statusCode: 412 });
      const fresh = (await serviceTwin(local, deviceId)).etag;
      // No device is there that would have it told here.
      await backEnd.call('registry', 'updateTwin', deviceId, { tags: { line: 5 } }, '*');
      await expect(update(fresh, { speed: 0 })).rejects.toMatchObject({ statusCode: 412 });
      const again = await serviceTwin(local, deviceId);
      expect(again.tags).toEqual({ line: 5 });
      await update(again.etag, { speed: 11 });
      expect((await cloudTwin(deviceId)).desired).toMatchObject({ speed: 11 });
    });

    it('are refused as the cloud refuses them, and while it is away', async () => {
      await using local = await openLocal();
      const write = (desired: object): Promise<unknown> =>
        local.call('registry', 'updateTwin', deviceId, { properties: { desired } }, '*');
      await expect(write({ text: 'x'.repeat(4000), big: 'y'.repeat(4000), more: filler() })).rejects.toMatchObject({
        statusCode: 400,
      });
      const before = await cloudTwin(deviceId);
      await refuse();
      await expect(write({ speed: 0 })).rejects.toMatchObject({ statusCode: 503 });
      await listen();
      expect((await cloudTwin(deviceId)).desired).toEqual(before.desired);
      await write({ speed: 12 });
      expect((await cloudTwin(deviceId)).desired).toMatchObject({ speed: 12 });
    });

    it('are refused where the policy of the gateway may not write twins', async () => {
      await edge.kill('SIGTERM');
      edge = stack.use(
        await startHubDaemon(
          edgeOptions(`HostName=${HUB_HOST_NAME};SharedAccessKeyName=makers;SharedAccessKey=${MAKERS.primary_key}`),
        ),
      );
      await using local = await openLocal();
      const write = local.call('registry', 'updateTwin', deviceId, { properties: { desired: { speed: 0 } } }, '*');
      const message = expect.stringMatching(/policy "makers" there needs the right ServiceConnect/) as string;
      await expect(write).rejects.toMatchObject({ statusCode: 503, message });
    });
  });
});

/** More than desired properties may have, with no member too long. */
function filler(): object {
  return Object.fromEntries(Array.from({ length: 8 }, (_, index) => [`part${index}`, 'z'.repeat(4000)]));
}
