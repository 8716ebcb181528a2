// What goes wrong between a gateway and its hub while everything runs: identities that are taken away, certificates that have
// ended, and commands that make no sense. MQTT and AMQP differ in words, not in what becomes of it.

import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { iotHubUpstreamConfig } from '../../modules/upstream-iothub/config.ts';
import { createIotHubTransport } from '../../modules/upstream-iothub/transport.ts';
import type { AuthenticationInput } from '../../src/core/hub/identity.ts';
import { deriveDeviceKey } from '../../src/iothub/group-key.ts';
import { hmacSha256 } from '../../src/platform/hmac.ts';
import { amqpTransport } from '../support/amqp-rig.ts';
import { message } from '../support/builders.ts';
import { createAuthority } from '../support/certificates.ts';
import { HUB } from '../support/hub.ts';
import { HUB_DEVICE, iotHubRig, type IotHubRig } from '../support/iothub-upstream.ts';
import { startProtonPeer } from '../support/proton-peer.ts';
import { memoryStateStore } from '../support/state.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { attachTwinsRig, METER } from '../support/twins-rig.ts';
import { endpointContext, hastyClock, startRig, type UpstreamRig } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.164.3';
const FULL = process.env['FIELDPOST_FULL'] === '1';
const GROUP_KEY = Buffer.alloc(64, 3).toString('base64');
const PROTOCOLS = ['amqp', 'mqtt'] as const;

const keyOf = (deviceId: string): string => deriveDeviceKey(GROUP_KEY, deviceId, { hmacSha256 });
const text = ({ body }: { readonly body: Uint8Array }): string => Buffer.from(body).toString();
const sas = (primaryKey: string): AuthenticationInput => ({
  type: 'sas',
  symmetricKey: { primaryKey, secondaryKey: primaryKey },
});

/** What a person at the hub does to a device, and takes back. */
const WAYS = ['disabled', 'deleted', 'given another key'] as const;

async function takeAway({ hub: { hub } }: IotHubRig, deviceId: string, way: (typeof WAYS)[number]): Promise<void> {
  const { identities } = hub.hub;
  if (way === 'deleted') await identities.deleteDevice(HUB, deviceId, '*');
  else if (way === 'disabled') await identities.putDevice(HUB, { deviceId, status: 'disabled' }, '*');
  else await identities.putDevice(HUB, { deviceId, authentication: sas(Buffer.alloc(32, 1).toString('base64')) }, '*');
}

async function giveBack({ hub: { hub } }: IotHubRig, deviceId: string, key: string): Promise<void> {
  const { identities } = hub.hub;
  const isThere = await identities.device(HUB, deviceId).then(
    () => true,
    () => false,
  );
  const device = { deviceId, status: 'enabled', authentication: sas(key) } as const;
  await identities.putDevice(HUB, device, isThere ? '*' : undefined);
}

async function append(upstream: UpstreamRig, deviceId: string, body: string): Promise<void> {
  await upstream.outbox.append([{ message: message({ device: deviceId, text: body }), queues: [] }]);
}

describe.each(PROTOCOLS)('identities that are taken away while they send over %s', (over) => {
  it.each(WAYS)('the gateway’s own: it says why, keeps everything and is back by itself (%s)', async (way) => {
    await using rig = await iotHubRig(ADDRESS, over);
    await using upstream = startRig(rig.transport(), 'live_first', hastyClock);
    const wanted = await upstream.append(20, 'before-');
    await upstream.drained();
    await takeAway(rig, HUB_DEVICE, way);
    wanted.push(...(await upstream.append(20, 'during-')));
    const why = over === 'mqtt' ? /refused device "plant-7"/ : /"\/devices\/plant-7\/.*(?:disabled|registered|valid)/;
    const told = (): string => upstream.runner.health().reason ?? '';
    await waitFor(() => why.test(told()), { what: 'the reason' });
    expect(rig.hub.stored).toHaveLength(20);
    await giveBack(rig, HUB_DEVICE, rig.keys.primary);
    await upstream.drained();
    expect([...new Set(rig.hub.stored.map(text))].toSorted()).toEqual(wanted.toSorted());
    expect(upstream.telemetry.of('message_rejected')).toEqual([]);
  });

  it.each(WAYS)('one of many: the others do not notice, and it is back by itself (%s)', async (way) => {
    await using rig = await iotHubRig(ADDRESS, over);
    const isMany = FULL && over === 'amqp' && way === 'disabled';
    const devices = Array.from({ length: isMany ? 500 : 10 }, (_, index) => `m${index}`);
    for (const deviceId of devices) await giveBack(rig, deviceId, keyOf(deviceId));
    const group = { identity: 'group_key', group_key: GROUP_KEY, per_device: over === 'mqtt' } as const;
    const transport = rig.transport({ leaf_devices: over === 'mqtt' ? group : { ...group, per_device: undefined } });
    await using upstream = startRig(transport, 'live_first', hastyClock);
    const wanted: string[] = [];
    const sendAll = async (round: string): Promise<void> => {
      for (const deviceId of devices) {
        wanted.push(`${deviceId} ${round}`);
        await append(upstream, deviceId, `${deviceId} ${round}`);
      }
    };
    const arrived = (): Set<string> => new Set(rig.hub.stored.map(text));
    const all = (from: readonly string[]): Promise<unknown> =>
      waitFor(() => from.every((one) => arrived().has(one)), { timeoutMs: 30_000, what: 'all messages' });
    await sendAll('before');
    await all(wanted);
    await takeAway(rig, 'm3', way);
    await sendAll('during');
    await sendAll('still');
    await all(wanted.filter((one) => !one.startsWith('m3 ') || one.endsWith('before')));
    expect([...arrived()].filter((one) => one.startsWith('m3 '))).toEqual(['m3 before']);
    await giveBack(rig, 'm3', keyOf('m3'));
    await all(wanted);
    for (const one of rig.hub.stored) expect(text(one).startsWith(`${one.deviceId} `)).toBe(true);
    expect(upstream.telemetry.of('message_rejected')).toEqual([]);
    expect(upstream.telemetry.of('endpoint_disconnected')).toEqual([]);
  });
});

describe.each(PROTOCOLS)('commands that make no sense over %s', (over) => {
  it('are answered or put aside, and nothing is written', async () => {
    await using rig = await iotHubRig(ADDRESS, over);
    const { hub } = rig.hub.hub;
    const leaves = over === 'mqtt' ? { per_device: true } : {};
    await giveBack(rig, METER, keyOf(METER));
    const transport = rig.transport({ leaf_devices: { identity: 'group_key', group_key: GROUP_KEY, ...leaves } });
    const field = attachTwinsRig(transport, await memoryStateStore(), rig.clock);
    await using upstream = startRig(transport, 'live_first', hastyClock);
    await append(upstream, METER, 'here I am');
    const invoke = async (deviceId: string, name: string, payload: string): Promise<unknown> => {
      const call = { name, payload: Buffer.from(payload), responseTimeoutMs: 10_000, connectTimeoutMs: 10_000 };
      const answer = await hub.methods.invoke(HUB, { deviceId }, call);
      return { status: answer.status, payload: JSON.parse(Buffer.from(answer.payload).toString()) as unknown };
    };
    const refused = (status: number, reason: RegExp) => ({
      status,
      payload: { reason: expect.stringMatching(reason) as unknown },
    });
    for (const [deviceId, name, payload, answer] of [
      [HUB_DEVICE, 'writePoint', '{"device_id":"nobody","values":{"relay":true}}', refused(404, /nobody/)],
      [HUB_DEVICE, 'writePoint', '{"device_id":"a/b","values":{"relay":true}}', refused(404, /a\/b/)],
      [HUB_DEVICE, 'writePoint', '{"device_id":', refused(400, /not JSON/)],
      [HUB_DEVICE, 'writePoint', '"text"', refused(400, /no object/)],
      [HUB_DEVICE, 'explode', '{}', refused(404, /no method "explode"/)],
      [METER, 'write', '{"relay"', refused(400, /not JSON/)],
      [METER, 'write', '[1]', refused(400, /./)],
      [METER, 'write', '{"values":{"level":101}}', refused(400, /100/)],
      [METER, 'write', '{"values":{"nothing":1}}', refused(404, /nothing/)],
      [METER, 'explode', '{}', refused(404, /./)],
    ] as const) {
      expect(await invoke(deviceId, name, payload), `${name} ${payload}`).toMatchObject(answer);
    }
    const messages: readonly (readonly [string, string, Readonly<Record<string, string>>])[] = [
      [HUB_DEVICE, '{"relay":true}', { device_id: 'nobody' }],
      [HUB_DEVICE, '{"relay":true}', {}],
      [HUB_DEVICE, 'no JSON', { device_id: METER }],
      [METER, 'no JSON', {}],
      [METER, '{"values":{"level":101}}', {}],
    ];
    for (const [deviceId, body, properties] of messages) {
      await hub.commands.send(HUB, { deviceId }, { body: Buffer.from(body), properties, ack: 'full' });
    }
    for (const deviceId of [HUB_DEVICE, METER]) {
      const waiting = async () => (await hub.identities.device(HUB, deviceId)).cloudToDeviceMessageCount;
      await expect.poll(waiting).toBe(0);
    }
    expect(field.written).toEqual([]);
    // One that makes sense is carried out still.
    expect(await invoke(METER, 'write', '{"values":{"level":100}}')).toMatchObject({ status: 200 });
  });
});

describe('a certificate whose time is over', () => {
  it.each(['amqp', 'amqps broker', 'amqp_ws', 'mqtt', 'mqtt_ws'] as const)(
    'of the peer is refused and named over %s',
    async (over) => {
      using directory = createTempDir('expired');
      const authority = await createAuthority(directory.path);
      const { certificate, key } = await authority.issue({ name: 'server', hosts: [ADDRESS], days: 0 });
      await using server = createServer({ cert: certificate, key }, (socket) => void socket.on('error', () => {}));
      server.listen(0, ADDRESS);
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      const ca = authority.certificate;
      const transport =
        over === 'amqps broker'
          ? amqpTransport({ url: `amqps://${ADDRESS}:${port}`, address: 'a', ca })
          : createIotHubTransport(
              iotHubUpstreamConfig.parse({
                connection_string: `HostName=${ADDRESS};DeviceId=plant-7;SharedAccessKey=${keyOf('plant-7')}`,
                protocol: over,
                port,
                ca,
              }),
              endpointContext(),
            );
      await expect(transport.open(AbortSignal.timeout(10_000))).rejects.toMatchObject({
        code: 'GW_TLS',
        message: expect.stringContaining(
          'its certificate has expired; check the date there and the clock here',
        ) as unknown,
      });
    },
  );

  it.each(PROTOCOLS)('of the gateway is named over %s, before the hub refuses it without a word', async (over) => {
    await using rig = await iotHubRig(ADDRESS, over);
    const { certificate, key } = await rig.hub.authority.issue({ name: HUB_DEVICE, days: -1 });
    const day = new X509Certificate(certificate).validToDate.toISOString().slice(0, 10);
    await expect(rig.transport({ certificate, key }).open(AbortSignal.timeout(10_000))).rejects.toMatchObject({
      code: 'GW_TLS',
      message: expect.stringContaining(`Our own certificate for ${ADDRESS} ended on ${day}`) as unknown,
    });
  });

  it('is for the peer to judge while it is not valid yet here', async () => {
    await using rig = await iotHubRig(ADDRESS, 'mqtt');
    const { certificate, key } = await rig.hub.authority.issue({ name: 'tomorrow', days: 3, startsInDays: 2 });
    await expect(rig.transport({ certificate, key }).open(AbortSignal.timeout(10_000))).rejects.toMatchObject({
      code: 'GW_UNAUTHORIZED',
    });
  });
});

it('commands from an AMQP queue that make no sense are answered with why, and nothing is written', async () => {
  await using peer = await startProtonPeer(ADDRESS);
  const [commands, replies] = ['bad.commands', 'bad.replies'];
  const transport = amqpTransport({
    url: peer.url,
    address: 'bad.telemetry',
    command_address: commands,
    command_expiry: 'optional',
  });
  const field = attachTwinsRig(transport, await memoryStateStore(), hastyClock);
  await using _upstream = startRig(transport);
  const asked: readonly (readonly [device: string, body: string, command: string, status: number])[] = [
    ['nobody', '{"id":"1","values":{"relay":true}}', 'write', 404],
    [METER, '{"id":"2","values":', 'write', 400],
    [METER, '[1]', 'write', 400],
    [METER, '{"id":"4","values":{"level":101}}', 'write', 400],
    [METER, '{"id":"5","values":{"nothing":1}}', 'write', 404],
    [METER, '{"id":"6","payload":1}', 'explode', 404],
  ];
  for (const [index, [device, body, command]] of asked.entries()) {
    const sent = { body, device, command, reply_to: replies, id: `c${index}` };
    peer.say(`send ${commands} ${JSON.stringify(sent)}`);
  }
  const answers = () => peer.of('message', replies);
  await waitFor(() => answers().length === asked.length, { what: 'the answers' });
  const statuses = new Map(
    answers().map(({ body, correlation_id }) => [
      correlation_id,
      (JSON.parse(String(body)) as { readonly status: number }).status,
    ]),
  );
  expect(asked.map((_, index) => statuses.get(`c${index}`))).toEqual(asked.map(([, , , status]) => status));
  await waitFor(() => peer.of('outcome', commands).length === asked.length, { what: 'the settlements' });
  expect(new Set(peer.of('outcome', commands).map(({ outcome }) => outcome))).toEqual(new Set(['accepted']));
  expect(field.written).toEqual([]);
});
