// Leaf devices with identities of their own at a hub, each on a connection of its own.

import { X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { DeviceCommand } from '../../src/core/command.ts';
import type { StoredMessage } from '../../src/core/message.ts';
import { deriveDeviceKey } from '../../src/iothub/group-key.ts';
import { hmacSha256 } from '../../src/platform/hmac.ts';
import { attachDownlink } from '../../src/upstream/downlink.ts';
import { message } from '../support/builders.ts';
import { HUB } from '../support/hub.ts';
import { HUB_DEVICE, iotHubRig, type IotHubRig } from '../support/iothub-upstream.ts';
import { GATEWAY_ID, recordingTelemetry, startRig } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.143.4';
const NEVER = new AbortController().signal;
const GROUP_KEY = Buffer.alloc(64, 3).toString('base64');
const keyOf = (fill: number): string => Buffer.alloc(32, fill).toString('base64');
const text = ({ body }: { readonly body: Uint8Array }): string => Buffer.from(body).toString();

async function create(rig: IotHubRig, deviceId: string, primaryKey: string): Promise<void> {
  const authentication = { type: 'sas', symmetricKey: { primaryKey, secondaryKey: primaryKey } } as const;
  await rig.hub.hub.hub.identities.putDevice(HUB, { deviceId, authentication }, undefined);
}

function own(devices: Readonly<Record<string, object>>) {
  return { leaf_devices: { identity: 'own', per_device: true, devices } } as const;
}

const group = (devices = {}) =>
  ({ leaf_devices: { identity: 'group_key', group_key: GROUP_KEY, per_device: true, devices } }) as const;

function stored(device: string, number: number): StoredMessage {
  const body = `${device}-${number}`;
  return { offset: number, seq: number, epoch: 'e', messageId: body, message: message({ device, text: body }) };
}

/** `device at the hub: body, property device_id`. */
const senders = ({ hub }: IotHubRig): string[] =>
  hub.stored.map((one) => `${one.deviceId}: ${text(one)}, ${one.properties['device_id'] ?? ''}`);

describe('leaf devices with their own identities', () => {
  it('send under these, over connections that their first messages open; the gateway speaks for the others', async () => {
    await using rig = await iotHubRig(ADDRESS);
    await create(rig, 'meter-1', keyOf(1));
    await create(rig, 'meter-2', keyOf(2));
    const transport = rig.transport(own({ 'meter-1': { key: keyOf(1) }, 'meter-2': { key: keyOf(2) } }));
    await transport.open(NEVER);
    expect(rig.proxy.connections).toBe(1);
    const batch = ['meter-1', 'meter-2', 'pump', GATEWAY_ID, 'meter-1'].map((device, index) => stored(device, index));
    expect(await transport.send(batch, NEVER)).toEqual(batch.map(() => ({ status: 'accepted' })));
    expect(rig.proxy.connections).toBe(3);
    expect(senders(rig).sort()).toEqual([
      'meter-1: meter-1-0, ',
      'meter-1: meter-1-4, ',
      'meter-2: meter-2-1, ',
      `${HUB_DEVICE}: ${GATEWAY_ID}-3, `,
      `${HUB_DEVICE}: pump-2, pump`,
    ]);
    // With the gateway's own connection all end.
    (await rig.hub.connect({ deviceId: HUB_DEVICE })).end(true);
    await transport.closed();
    await waitFor(() => rig.proxy.connections === 0);
    await transport.close();
  });

  it('are proven by a key derived from that of their group, or by a certificate', async () => {
    await using rig = await iotHubRig(ADDRESS);
    await create(rig, 'meter-1', deriveDeviceKey(GROUP_KEY, 'meter-1', { hmacSha256 }));
    const { certificate, key } = await rig.hub.authority.issue({ name: 'valve' });
    const primaryThumbprint = new X509Certificate(certificate).fingerprint.replaceAll(':', '');
    const authentication = { type: 'selfSigned', x509Thumbprint: { primaryThumbprint } } as const;
    await rig.hub.hub.hub.identities.putDevice(HUB, { deviceId: 'valve', authentication }, undefined);
    const transport = rig.transport(group({ valve: { certificate, private_key: key } }));
    await transport.open(NEVER);
    await transport.send([stored('meter-1', 1), stored('valve', 2)], NEVER);
    expect(senders(rig).sort()).toEqual(['meter-1: meter-1-1, ', 'valve: valve-2, ']);
    await transport.close();
  });

  it('harm no other when one of them is refused, or cut off', async () => {
    await using rig = await iotHubRig(ADDRESS);
    for (const device of ['a', 'b']) await create(rig, device, deriveDeviceKey(GROUP_KEY, device, { hmacSha256 }));
    await using upstream = startRig(rig.transport(group()));
    await upstream.append(1, 'no-', { ...message({ device: 'unknown' }), body: Buffer.from('x') });
    const outbox = upstream.outbox;
    const wanted: string[] = [];
    for (let number = 0; number < 60; number += 1) {
      const device = number % 2 === 0 ? 'a' : 'b';
      wanted.push(`${device}-${number}`);
      await outbox.append([{ message: message({ device, text: `${device}-${number}` }), queues: [] }]);
      // The hub ends the connection of this one, whose key is not renewed: it comes back with its next message.
      if (number === 30) (await rig.hub.connect({ deviceId: 'a' })).end(true);
    }
    await waitFor(() => new Set(rig.hub.stored.map(text)).size === wanted.length, { timeoutMs: 15_000 });
    const first = [...new Set(rig.hub.stored.map(text))];
    for (const device of ['a', 'b']) {
      const of = (texts: readonly string[]): string[] => texts.filter((one) => one.startsWith(`${device}-`));
      expect(of(first)).toEqual(of(wanted));
    }
    expect(rig.hub.stored.map(({ deviceId }) => deviceId)).not.toContain(HUB_DEVICE);
    expect(upstream.telemetry.of('endpoint_disconnected')).toEqual([]);
  });

  it('tell why one of them is refused', async () => {
    await using rig = await iotHubRig(ADDRESS);
    await create(rig, 'wrong', keyOf(9));
    // Though it is not known here that the clock is right: the hub has just let the gateway in by it.
    const transport = rig.transport(group(), { ...rig.clock, quality: () => 'restored' });
    await transport.open(NEVER);
    const results = await transport.send([stored('wrong', 1), stored('nobody', 2)], NEVER);
    expect(results).toMatchObject(
      ['wrong', 'nobody'].map((device) => ({
        status: 'retry',
        kind: 'unauthorized',
        reason: expect.stringContaining(
          `refused device "${device}": no such device, or a wrong or revoked key`,
        ) as unknown,
      })),
    );
    await transport.close();
  });

  it('take methods and messages of their own', async () => {
    await using rig = await iotHubRig(ADDRESS);
    await create(rig, 'meter-1', deriveDeviceKey(GROUP_KEY, 'meter-1', { hmacSha256 }));
    const { hub } = rig.hub.hub;
    const asked: DeviceCommand[] = [];
    const run = (command: DeviceCommand) => {
      asked.push(command);
      return Promise.resolve({ status: 200, values: { relay: true } } as const);
    };
    const transport = rig.transport(group());
    attachDownlink(transport, {
      name: '$upstream',
      gatewayId: GATEWAY_ID,
      dispatcher: { run, isAway: () => false },
      telemetry: recordingTelemetry(),
    });
    await transport.open(NEVER);
    await transport.send([stored('meter-1', 1)], NEVER);
    const call = { responseTimeoutMs: 5000, connectTimeoutMs: 0 };
    const invoke = (name: string, payload: string) =>
      hub.methods.invoke(HUB, { deviceId: 'meter-1' }, { ...call, name, payload: Buffer.from(payload) });
    await waitFor(() =>
      invoke('probe', '{}').then(
        () => true,
        () => false,
      ),
    );
    asked.length = 0;
    const answer = await invoke('write', '{"values":{"relay":true}}');
    expect([answer.status, JSON.parse(Buffer.from(answer.payload).toString())]).toEqual([
      200,
      { values: { relay: true } },
    ]);
    const refused = await invoke('write', '[]');
    expect(refused.status).toBe(400);
    const body = Buffer.from('{"relay":false}');
    // A leaf device speaks for itself alone, whatever the message says.
    const properties = { device_id: 'meter-9' };
    await hub.commands.send(HUB, { deviceId: 'meter-1' }, { body, properties, ack: 'none' });
    await expect.poll(async () => (await hub.identities.device(HUB, 'meter-1')).cloudToDeviceMessageCount).toBe(0);
    expect(asked).toEqual([
      { kind: 'write', deviceId: 'meter-1', values: { relay: true } },
      { kind: 'write', deviceId: 'meter-1', values: { relay: false } },
    ]);
    await transport.close();
  });
});

it('proves the gateway by a certificate', async () => {
  await using rig = await iotHubRig(ADDRESS);
  const { certificate, key } = await rig.hub.authority.issue({ name: 'gateway' });
  const primaryThumbprint = new X509Certificate(certificate).fingerprint.replaceAll(':', '');
  const authentication = { type: 'selfSigned', x509Thumbprint: { primaryThumbprint } } as const;
  await rig.hub.hub.hub.identities.putDevice(HUB, { deviceId: 'by-cert', authentication }, undefined);
  const transport = rig.transport({ device_id: 'by-cert', certificate, key });
  await transport.open(NEVER);
  expect(await transport.send([stored(GATEWAY_ID, 1)], NEVER)).toEqual([{ status: 'accepted' }]);
  expect(senders(rig)).toEqual([`by-cert: ${GATEWAY_ID}-1, `]);
  await transport.close();
  const other = await rig.hub.authority.issue({ name: 'other' });
  const stranger = rig.transport({ device_id: 'by-cert', certificate: other.certificate, key: other.key });
  await expect(stranger.open(NEVER)).rejects.toMatchObject({
    kind: 'unauthorized',
    message: expect.stringContaining('its certificate is not the one registered there') as unknown,
  });
});
