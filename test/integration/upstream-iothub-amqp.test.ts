// Leaf devices with identities of their own on one AMQP connection to a hub: tokens, links, batches, and what is refused to one
// of them.

import { X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { StoredMessage } from '../../src/core/message.ts';
import { deriveDeviceKey } from '../../src/iothub/group-key.ts';
import { hmacSha256 } from '../../src/platform/hmac.ts';
import { message } from '../support/builders.ts';
import { HUB } from '../support/hub.ts';
import { clockWithRenewals, HUB_DEVICE, iotHubRig, type IotHubRig } from '../support/iothub-upstream.ts';
import { GATEWAY_ID, startRig } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.151.1';
const NEVER = new AbortController().signal;
const GROUP_KEY = Buffer.alloc(64, 3).toString('base64');
const text = ({ body }: { readonly body: Uint8Array }): string => Buffer.from(body).toString();
const keyOf = (device: string): string => deriveDeviceKey(GROUP_KEY, device, { hmacSha256 });
const group = (devices = {}) => ({ leaf_devices: { identity: 'group_key', group_key: GROUP_KEY, devices } }) as const;

type Status = 'enabled' | 'disabled';

async function create(rig: IotHubRig, deviceId: string, status: Status = 'enabled', ifMatch?: '*'): Promise<void> {
  const primaryKey = keyOf(deviceId);
  const authentication = { type: 'sas', symmetricKey: { primaryKey, secondaryKey: primaryKey } } as const;
  await rig.hub.hub.hub.identities.putDevice(HUB, { deviceId, status, authentication }, ifMatch);
}

function stored(device: string, number: number, fields: Parameters<typeof message>[0] = {}): StoredMessage {
  const body = `${device}-${number}`;
  return {
    offset: number,
    seq: number,
    epoch: 'e',
    messageId: body,
    message: message({ device, text: body, ...fields }),
  };
}

/** `device at the hub: body, property device_id`. */
const senders = ({ hub }: IotHubRig): string[] =>
  hub.stored.map((one) => `${one.deviceId}: ${text(one)}, ${one.properties['device_id'] ?? ''}`);

describe('leaf devices on one AMQP connection', () => {
  it('send under their own identities, and what has none under the gateway’s', async () => {
    await using rig = await iotHubRig(ADDRESS, 'amqp');
    for (const device of ['meter-1', 'meter 2'.replace(' ', '%')]) await create(rig, device);
    const transport = rig.transport({
      leaf_devices: {
        identity: 'own',
        devices: { 'meter-1': { key: keyOf('meter-1') }, 'meter%2': { key: keyOf('meter%2') } },
      },
    });
    await transport.open(NEVER);
    const batch = ['meter-1', 'meter%2', 'pump', GATEWAY_ID, 'meter-1'].map((device, index) => stored(device, index));
    expect(await transport.send(batch, NEVER)).toEqual(batch.map(() => ({ status: 'accepted' })));
    expect(rig.proxy.connections).toBe(1);
    expect(senders(rig).sort()).toEqual([
      'meter%2: meter%2-1, ',
      'meter-1: meter-1-0, ',
      'meter-1: meter-1-4, ',
      `${HUB_DEVICE}: ${GATEWAY_ID}-3, `,
      `${HUB_DEVICE}: pump-2, pump`,
    ]);
    await transport.close();
  });

  it('leave the others unharmed where one is disabled, one unknown, and one becomes disabled', async () => {
    await using rig = await iotHubRig(ADDRESS, 'amqp');
    const devices = Array.from({ length: 50 }, (_, index) => `m${index}`);
    for (const device of devices) await create(rig, device, device === 'm7' ? 'disabled' : 'enabled');
    await using upstream = startRig(rig.transport(group()));
    const send = async (device: string, number: number): Promise<void> => {
      await upstream.outbox.append([{ message: message({ device, text: `${device}-${number}` }), queues: [] }]);
    };
    const wanted: string[] = [];
    for (let number = 0; number < 5; number += 1) {
      await send('nobody', number);
      for (const device of devices) {
        await send(device, number);
        if (device !== 'm7' && device !== 'm3') wanted.push(`${device}-${number}`);
      }
      if (number === 2) {
        await waitFor(() => rig.hub.stored.filter((one) => one.deviceId === 'm3').length === 3);
        await create(rig, 'm3', 'disabled', '*');
      }
    }
    const others = (): string[] => rig.hub.stored.filter((one) => one.deviceId !== 'm3').map(text);
    await waitFor(() => others().length >= wanted.length, { timeoutMs: 20_000 });
    expect(others().toSorted()).toEqual(wanted.toSorted());
    // They wait, and nothing of them is put aside; enabled again, they deliver by themselves.
    expect(upstream.telemetry.of('message_rejected')).toEqual([]);
    expect(upstream.telemetry.of('endpoint_disconnected')).toEqual([]);
    expect(rig.proxy.acceptedTotal).toBeLessThanOrEqual(2);
    await create(rig, 'm7', 'enabled', '*');
    await waitFor(() => rig.hub.stored.filter((one) => one.deviceId === 'm7').length === 5, { timeoutMs: 30_000 });
    expect(rig.hub.stored.filter((one) => one.deviceId === 'm7').map(text)).toEqual(
      Array.from({ length: 5 }, (_, number) => `m7-${number}`),
    );
  });

  it('are told why they are refused', async () => {
    await using rig = await iotHubRig(ADDRESS, 'amqp');
    const authentication = { type: 'sas', symmetricKey: { primaryKey: keyOf('x'), secondaryKey: keyOf('x') } } as const;
    await rig.hub.hub.hub.identities.putDevice(HUB, { deviceId: 'wrong', authentication }, undefined);
    // Though it is not known here that the clock is right: the hub has just let the gateway in by it.
    const transport = rig.transport(group(), { ...rig.clock, quality: () => 'restored' });
    await transport.open(NEVER);
    expect(await transport.send([stored('wrong', 1), stored('nobody', 2)], NEVER)).toMatchObject([
      {
        kind: 'unauthorized',
        reason: expect.stringContaining('refused device "wrong": no such device, or a wrong') as unknown,
      },
      { kind: 'unauthorized', reason: expect.stringContaining('refused device "nobody": ') as unknown },
    ]);
    await transport.close();
  });

  it('go on another connection where one has as many as it may, or a certificate proves them', async () => {
    await using rig = await iotHubRig(ADDRESS, 'amqp');
    for (const device of ['a', 'b', 'c']) await create(rig, device);
    const { certificate, key } = await rig.hub.authority.issue({ name: 'valve' });
    const primaryThumbprint = new X509Certificate(certificate).fingerprint.replaceAll(':', '');
    const authentication = { type: 'selfSigned', x509Thumbprint: { primaryThumbprint } } as const;
    await rig.hub.hub.hub.identities.putDevice(HUB, { deviceId: 'valve', authentication }, undefined);
    const transport = rig.transport({
      ...group({ valve: { certificate, private_key: key } }),
      max_devices_per_connection: 2,
    });
    await transport.open(NEVER);
    const batch = ['a', 'b', 'c', 'valve', GATEWAY_ID].map((device, index) => stored(device, index));
    expect(await transport.send(batch, NEVER)).toEqual(batch.map(() => ({ status: 'accepted' })));
    // The gateway and a; b and c; valve.
    expect(rig.proxy.connections).toBe(3);
    expect(rig.hub.stored.map(({ deviceId }) => deviceId).sort()).toEqual(['a', 'b', 'c', HUB_DEVICE, 'valve']);
    await transport.close();
    await waitFor(() => rig.proxy.connections === 0);
  });

  it('lose nothing to a link that is cut in the middle, again and again', async () => {
    await using rig = await iotHubRig(ADDRESS, 'amqp');
    const devices = Array.from({ length: 5 }, (_, index) => `m${index}`);
    for (const device of devices) await create(rig, device);
    await using upstream = startRig(rig.transport(group()));
    const wanted: string[] = [];
    for (let number = 0; number < 200; number += 1) {
      const device = `m${number % 5}`;
      wanted.push(`${device}-${number}`);
      await upstream.outbox.append([{ message: message({ device, text: `${device}-${number}` }), queues: [] }]);
      if (number % 50 === 25) {
        await waitFor(() => rig.hub.stored.length > number - 20, { timeoutMs: 15_000 });
        rig.proxy.cut();
      }
    }
    await waitFor(() => new Set(rig.hub.stored.map(text)).size === wanted.length, { timeoutMs: 20_000 });
    for (const one of rig.hub.stored) expect(text(one)).toMatch(new RegExp(`^${one.deviceId}-`));
  });

  it('have their tokens renewed on the links that stand', async () => {
    await using rig = await iotHubRig(ADDRESS, 'amqp');
    await create(rig, 'a');
    const { clock, renewals } = clockWithRenewals(rig.clock);
    const transport = rig.transport(group(), clock);
    await transport.open(NEVER);
    await transport.send([stored('a', 1), stored(GATEWAY_ID, 2)], NEVER);
    const { acceptedTotal } = rig.proxy;
    for (let round = 0; round < 3; round += 1) {
      // Of 3600 s, with 300 s for clocks that differ: without a renewal the second round ends the links.
      rig.hub.clock.advance(2_900_000);
      for (const renew of renewals.splice(0)) renew();
      await waitFor(() => renewals.length === 2);
      expect(await transport.send([stored('a', 3 + round), stored(GATEWAY_ID, 9)], NEVER)).toEqual([
        { status: 'accepted' },
        { status: 'accepted' },
      ]);
    }
    expect(rig.proxy.acceptedTotal).toBe(acceptedTotal);
    await transport.close();
  });
});

describe('messages over AMQP', () => {
  it('have all their properties at the hub', async () => {
    await using rig = await iotHubRig(ADDRESS, 'amqp');
    const transport = rig.transport();
    await transport.open(NEVER);
    const systemProperties = {
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      correlationId: 'c&1',
      userId: 'me',
      creationTimeUtc: '2026-01-02T03:04:05.678Z',
      componentName: 'pump',
      diagnosticId: '00-1-2-01',
      correlationContext: 'k=v',
    };
    const properties = { 'a b': 'c/é+%', device_id: 'somebody else', '$.odd': 'kept', '': 'no name' };
    await transport.send([stored('meter-1', 1, { properties, systemProperties })], NEVER);
    expect(rig.hub.stored.map((one) => [one.deviceId, one.properties, one.systemProperties])).toEqual([
      [
        HUB_DEVICE,
        { 'a b': 'c/é+%', device_id: 'meter-1', '$.odd': 'kept', 'fieldpost-id': 'e.meter-1.1' },
        { messageId: 'meter-1-1', ...systemProperties },
      ],
    ]);
    await transport.close();
  });

  it('go in batches; what the hub does not take of one goes to the quarantine, and nothing beside it', async () => {
    await using rig = await iotHubRig(ADDRESS, 'amqp');
    let commits = 0;
    rig.hub.beforeCommit = () => {
      commits += 1;
      return Promise.resolve();
    };
    const transport = rig.transport();
    await transport.open(NEVER);
    const good = Array.from({ length: 100 }, (_, index) => stored('m', index));
    expect(new Set((await transport.send(good, NEVER)).map(({ status }) => status))).toEqual(new Set(['accepted']));
    expect(commits).toBeLessThan(5);
    // A user id that is no text the hub can store is refused there, with its batch.
    const large = stored('m', 1, { body: Buffer.alloc(262_144) });
    const middle = Array.from({ length: 5 }, (_, index) =>
      stored('m', 200 + index, { body: Buffer.alloc(100_000, index) }),
    );
    const results = await transport.send([stored('m', 150), large, ...middle], NEVER);
    expect(results.map(({ status }) => status)).toEqual(['accepted', 'rejected', ...middle.map(() => 'accepted')]);
    await transport.close();
  });

  it('wait, and slow everything down, where the hub throttles', async () => {
    await using rig = await iotHubRig(ADDRESS, 'amqp');
    const transport = rig.transport();
    await transport.open(NEVER);
    const { iotHubError } = await import('../../src/iothub/errors.ts');
    for (const name of ['ThrottlingException', 'IotHubQuotaExceeded'] as const) {
      rig.hub.beforeCommit = () => Promise.reject(iotHubError(name, 'Not now.'));
      expect(await transport.send([stored('m', 1)], NEVER)).toMatchObject([{ status: 'retry', kind: 'throttled' }]);
    }
    await transport.close();
  });
});

describe('a hub that does not want the gateway over AMQP', () => {
  it('is told apart: a wrong key, no such device, a disabled device, a wrong clock', async () => {
    await using rig = await iotHubRig(ADDRESS, 'amqp');
    const open = (...settings: Parameters<typeof rig.transport>): Promise<void> =>
      rig.transport(...settings).open(NEVER);
    await expect(open({ shared_access_key: keyOf('other') })).rejects.toMatchObject({
      code: 'GW_UNAUTHORIZED',
      kind: 'unauthorized',
      message: expect.stringContaining('a wrong or revoked key, or a wrong clock here') as unknown,
    });
    await expect(open({ device_id: 'nobody' })).rejects.toMatchObject({ kind: 'unauthorized' });
    const unset = { ...rig.clock, wallMs: () => 0, quality: () => 'unknown' as const };
    await expect(open({}, unset)).rejects.toMatchObject({
      kind: 'transient',
      message: expect.stringContaining('the clock here is not set (unknown)') as unknown,
    });
    const { hub } = rig.hub.hub;
    await hub.identities.putDevice(HUB, { deviceId: HUB_DEVICE, status: 'disabled' }, '*');
    await expect(open()).rejects.toMatchObject({ kind: 'unauthorized' });
  });

  it('is heard where a certificate proves the gateway, which is shown, and the connection stands', async () => {
    await using rig = await iotHubRig(ADDRESS, 'amqp');
    const { certificate, key } = await rig.hub.authority.issue({ name: HUB_DEVICE });
    await using upstream = startRig(rig.transport({ certificate, key }));
    await upstream.append(1);
    await waitFor(() => upstream.runner.health().status === 'degraded', { what: 'the refusal' });
    expect(upstream.runner.health()).toMatchObject({
      reason: expect.stringContaining('certificate is not the one that is registered') as unknown,
    });
    expect(upstream.telemetry.of('endpoint_disconnected')).toEqual([]);
  });
});
