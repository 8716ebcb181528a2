// The upstream to Azure IoT Hub against the local hub's MQTT head: what arrives, under which identity, and what a hub that does
// not want it looks like.

import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/core/clock.ts';
import { parseDeviceId } from '../../src/core/device.ts';
import type { StoredMessage } from '../../src/core/message.ts';
import { endpointSuite } from '../conformance/endpoint.suite.ts';
import { message } from '../support/builders.ts';
import { HUB } from '../support/hub.ts';
import { clockWithRenewals, HUB_DEVICE, iotHubRig } from '../support/iothub-upstream.ts';
import { GATEWAY_ID, startRig } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.143.1';
const NEVER = new AbortController().signal;
const text = ({ body }: { readonly body: Uint8Array }): string => Buffer.from(body).toString();

for (const protocol of ['amqp', 'amqp_ws', 'mqtt', 'mqtt_ws'] as const) {
  endpointSuite(`upstream-iothub over ${protocol}`, async () => {
    const rig = await iotHubRig(ADDRESS, protocol);
    const endpoint = rig.transport({ window: 16 });
    return {
      endpoint,
      arrived: () => rig.hub.stored.map(text),
      stop: () => rig.proxy.refuse(),
      start: () => rig.proxy.listen(),
      pause: () => rig.proxy.blackHole(),
      resume: () => rig.proxy.pass(),
      [Symbol.asyncDispose]: async () => {
        await endpoint.close();
        await rig[Symbol.asyncDispose]();
      },
    };
  });
}

function stored(fields: Parameters<typeof message>[0] = {}, messageId = 'abcd.meter-1.1'): StoredMessage {
  return { offset: 1, seq: 1, epoch: 'abcd', messageId, message: message(fields) };
}

describe('telemetry', () => {
  it('comes from the gateway’s own device, with the leaf device as a property and all others beside it', async () => {
    await using rig = await iotHubRig(ADDRESS);
    const transport = rig.transport();
    await transport.open(NEVER);
    const systemProperties = {
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      correlationId: 'c&1',
      creationTimeUtc: '2026-01-02T03:04:05.678Z',
      diagnosticId: '00-1-2-01',
      correlationContext: 'k=v',
    };
    const properties = { 'a b': 'c/é+%', device_id: 'somebody else', '$.cdid': 'forged', '': 'no name' };
    const results = await transport.send(
      [
        stored({ text: '{"v":1}', properties, systemProperties }),
        stored({ text: 'own', device: GATEWAY_ID }, `abcd.${GATEWAY_ID}.1`),
        stored({ text: 'long', device: 'd'.repeat(128) }, `abcd.${'d'.repeat(128)}.1`),
        stored({ text: 'its own id' }, 'mine'),
        stored({ text: 'an id of another kind' }, 'mine /ü'),
      ],
      NEVER,
    );
    expect(results.map(({ status }) => status)).toEqual(Array.from({ length: 5 }, () => 'accepted'));
    expect(rig.hub.stored.map((one) => [one.deviceId, text(one), one.properties, one.systemProperties])).toEqual([
      [
        HUB_DEVICE,
        '{"v":1}',
        { 'a b': 'c/é+%', device_id: 'meter-1' },
        { messageId: 'abcd.meter-1.1', ...systemProperties },
      ],
      [HUB_DEVICE, 'own', {}, { messageId: `abcd.${GATEWAY_ID}.1` }],
      // A message id has at most 128 characters.
      [HUB_DEVICE, 'long', { device_id: 'd'.repeat(128), 'fieldpost-id': `abcd.${'d'.repeat(128)}.1` }, {}],
      [HUB_DEVICE, 'its own id', { device_id: 'meter-1', 'fieldpost-id': 'abcd.meter-1.1' }, { messageId: 'mine' }],
      [
        HUB_DEVICE,
        'an id of another kind',
        { device_id: 'meter-1', 'message-id': 'mine /ü' },
        { messageId: 'abcd.meter-1.1' },
      ],
    ]);
    await transport.close();
  });

  it('rejects what the hub would end the connection over, and goes on', async () => {
    await using rig = await iotHubRig(ADDRESS);
    const transport = rig.transport();
    await transport.open(NEVER);
    const results = await transport.send(
      [
        stored({ body: Buffer.alloc(262_144) }),
        stored({ properties: { blanks: ' '.repeat(25_000) } }),
        stored({ body: Buffer.alloc(262_000) }),
      ],
      NEVER,
    );
    expect(results).toMatchObject([
      { status: 'rejected', reason: expect.stringMatching(/has \d+ bytes with its properties; the hub takes 262144/) },
      { status: 'rejected', reason: expect.stringContaining('a topic of') },
      { status: 'accepted' },
    ]);
    expect(rig.hub.stored).toHaveLength(1);
    await transport.close();
  });

  it('loses nothing to a link that is cut in the middle, again and again', async () => {
    await using rig = await iotHubRig(ADDRESS);
    await using upstream = startRig(rig.transport());
    const wanted: string[] = [];
    for (const round of [0, 1, 2, 3]) {
      rig.proxy.cutAfter('up', 4000);
      wanted.push(...(await upstream.append(100, `r${round}-`)));
      await upstream.drained();
    }
    const texts = rig.hub.stored.map(text);
    expect(new Set(texts)).toEqual(new Set(wanted));
    // In order, the first time that each arrives.
    expect([...new Set(texts)]).toEqual(wanted);
    expect(texts.length).toBeGreaterThan(0);
  });
});

describe('the token', () => {
  it('is renewed on a new connection, without a message sent twice and without an end of the endpoint', async () => {
    await using rig = await iotHubRig(ADDRESS);
    const { clock, renewals, goodbyes } = clockWithRenewals(rig.clock);
    await using upstream = startRig(rig.transport({ token_lifetime_secs: 1800, keepalive_secs: 1170 }, clock));
    const wanted = await upstream.append(50, 'before-');
    await upstream.drained();
    rig.hub.clock.advance(1_500_000);
    // A renewal that meets messages on their way.
    const storing = Promise.withResolvers<undefined>();
    const release = Promise.withResolvers<undefined>();
    rig.hub.beforeCommit = async () => {
      storing.resolve(undefined);
      await release.promise;
    };
    wanted.push(...(await upstream.append(300, 'during-')));
    await storing.promise;
    renewals[0]?.();
    // Long enough for a goodbye that does not wait.
    await rig.hub.create({ deviceId: 'another' });
    (await rig.hub.connect({ deviceId: 'another' })).end(true);
    expect(goodbyes()).toBe(0);
    release.resolve(undefined);
    await waitFor(() => renewals.length === 2);
    wanted.push(...(await upstream.append(50, 'after-')));
    await upstream.drained();
    expect(rig.hub.stored.map(text)).toEqual(wanted);
    // The hub ends a connection with its token: this one has a new token, and outlives the old one.
    rig.hub.clock.advance(1_500_000);
    await upstream.append(1, 'later-');
    await upstream.drained();
    expect(rig.proxy.acceptedTotal).toBe(3); // a probe and two connections
    expect(upstream.telemetry.of('endpoint_disconnected')).toEqual([]);
    expect(upstream.runner.status().connectsTotal).toBe(1);
  });

  it('ends the connection with the reason when the hub does not take the new one, and answers what waited', async () => {
    await using rig = await iotHubRig(ADDRESS);
    const { clock, renewals } = clockWithRenewals(rig.clock);
    let isLost = false;
    const losing: Clock = {
      ...clock,
      wallMs: () => (isLost ? 0 : clock.wallMs()),
      quality: () => (isLost ? 'unknown' : 'synced'),
    };
    const transport = rig.transport({}, losing);
    await transport.open(NEVER);
    isLost = true;
    renewals[0]?.();
    await waitFor(() => rig.proxy.acceptedTotal === 2);
    const waited = transport.send([stored()], NEVER);
    expect(await transport.closed()).toMatchObject({
      kind: 'transient',
      reason: expect.stringMatching(/^The token could not be renewed: .* clock here is not set/) as unknown,
    });
    expect(await waited).toMatchObject([{ status: 'retry', kind: 'transient' }]);
    isLost = false;
    await transport.open(NEVER);
    expect(await transport.send([stored()], NEVER)).toEqual([{ status: 'accepted' }]);
    await transport.close();
  });
});

describe('a hub that does not want the gateway', () => {
  it('is told apart: a wrong key, no such device, a disabled device, a wrong clock', async () => {
    await using rig = await iotHubRig(ADDRESS);
    const wrongKey = rig.transport({ shared_access_key: Buffer.alloc(32, 1).toString('base64') });
    await expect(wrongKey.open(NEVER)).rejects.toMatchObject({
      code: 'GW_UNAUTHORIZED',
      kind: 'unauthorized',
      message: `${ADDRESS} refused device "${HUB_DEVICE}": no such device, a wrong or revoked key, or a wrong clock here (code 5).`,
    });
    await expect(rig.transport({ device_id: parseDeviceId('nobody') }).open(NEVER)).rejects.toMatchObject({
      kind: 'unauthorized',
    });
    const secondary = rig.transport({ shared_access_key: rig.keys.secondary });
    await secondary.open(NEVER);
    await secondary.close();
    // A board without a clock: its tokens are of the past.
    const unset: Clock = { ...rig.clock, wallMs: () => 0, quality: () => 'unknown' };
    await expect(rig.transport({}, unset).open(NEVER)).rejects.toMatchObject({
      kind: 'transient',
      message: expect.stringContaining(
        'the clock here is not set (unknown), and a token with a wrong time is refused',
      ) as unknown,
    });
    const { hub } = rig.hub.hub;
    await hub.identities.putDevice(HUB, { deviceId: HUB_DEVICE, status: 'disabled' }, '*');
    await expect(rig.transport().open(NEVER)).rejects.toMatchObject({
      code: 'GW_THROTTLED',
      message: expect.stringContaining('the device is disabled there, or the hub is not available now') as unknown,
    });
  });

  it('leaves it alone for longer when it ends connections soon, three in a row', async () => {
    await using rig = await iotHubRig(ADDRESS);
    const transport = rig.transport();
    const kinds: string[] = [];
    for (let round = 0; round < 4; round += 1) {
      await transport.open(NEVER);
      // The same device on another connection: the hub ends this one.
      const other = await rig.hub.connect({ deviceId: HUB_DEVICE });
      const { kind, reason } = await transport.closed();
      expect(reason).toContain('another client connects with the same device id');
      kinds.push(kind);
      other.end(true);
    }
    expect(kinds).toEqual(['transient', 'transient', 'throttled', 'throttled']);
  });
});
