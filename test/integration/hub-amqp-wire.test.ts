// What the SDKs do not show of AMQP: refusals, many devices on one connection, batches, the end of credentials, broken peers.

import { connect } from 'node:net';
import rhea, { type Message } from 'rhea';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectAmqp, sasToken, type TestConnection, type TestSender } from '../support/amqp-client.ts';
import { HUB_HOST_NAME, startHubDaemon, type HubDaemon } from '../support/hub-daemon.ts';
import { startBackEnd, type SdkChild } from '../support/sdk-child.ts';
import { createTempDir, type TempDir } from '../support/temp-dir.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.102.3';
const PORT = 5672;
const KEY = Buffer.alloc(32, 9).toString('base64');
const OTHER_KEY = Buffer.alloc(32, 8).toString('base64');
const BATCH = 0x8001_3700;
/** Of a token that is over in 4 s, with the tolerance for clocks that differ. */
const ENDS_SOON_SECS = -296;

const { message: codec } = rhea as unknown as {
  message: {
    encode(message: object): Buffer;
    data_section(bytes: Buffer): unknown;
    data_sections(list: Buffer[]): unknown;
  };
};

const telemetry = (text: string, more: object = {}): Message => ({
  body: codec.data_section(Buffer.from(text)),
  ...more,
});

const token = (deviceId: string, lifeSecs = 3600, key = KEY): string =>
  sasToken(`${HUB_HOST_NAME}/devices/${deviceId}`, key, lifeSecs);

describe('AMQP of the local hub on the wire', () => {
  let directory: TempDir;
  let hub: HubDaemon;
  let backEnd: SdkChild;

  const open = (options: object = {}): Promise<TestConnection> =>
    connectAmqp({ host: ADDRESS, port: PORT, hostName: HUB_HOST_NAME, options });
  const audience = (deviceId: string): string => `${HUB_HOST_NAME}/devices/${deviceId}`;
  const create = (deviceId: string): Promise<unknown> =>
    backEnd.call('registry', 'create', {
      deviceId,
      authentication: { type: 'sas', symmetricKey: { primaryKey: KEY, secondaryKey: OTHER_KEY } },
    });

  beforeAll(async () => {
    directory = createTempDir('hub-amqp-wire');
    hub = await startHubDaemon({
      address: ADDRESS,
      directory,
      hub: { amqp_port: PORT, fault_injection: true },
      ports: [443, PORT],
    });
    backEnd = startBackEnd({ hub });
    await backEnd.call('openRegistry', hub.owner);
    await Promise.all(['d1', 'd2', 'd3', 'd4', 'd5'].map(create));
  });

  afterAll(async () => {
    await backEnd?.kill();
    await hub?.kill('SIGKILL');
    directory.remove();
  });

  it('refuses links without a token, unknown addresses and wrong ways, each by its own error', async () => {
    using client = await open();
    const cases = [
      ['/devices/d1/messages/events', 'sender', 'amqp:unauthorized-access'],
      ['/nowhere/at/all', 'sender', 'amqp:not-found'],
      ['nowhere', 'sender', 'amqp:not-found'],
      ['CBS', 'receiver', 'amqp:not-found'],
      ['/messages/devicebound', 'sender', 'amqp:unauthorized-access'],
      ['hub/ConsumerGroups/$Default/Partitions/0', 'receiver', 'amqp:unauthorized-access'],
      ['hub/ConsumerGroups/$Default/Partitions/99', 'receiver', 'com.microsoft:argument-error'],
      ['hub', 'sender', 'amqp:not-allowed'],
    ] as const;
    for (const [address, role, condition] of cases) {
      const link = await (role === 'sender' ? client.sender(address) : client.receiver(address));
      expect(await link.closed, address).toMatchObject({ condition });
    }
  });

  it('refuses a link without a target or a source alone', async () => {
    using client = await open();
    const sender = await client.sender('', { target: undefined });
    expect(await sender.closed).toMatchObject({ condition: 'amqp:not-found' });
    const receiver = await client.receiver('', { source: undefined });
    expect(await receiver.closed).toMatchObject({ condition: 'amqp:not-found' });
    await client.putToken(audience('d1'), token('d1'));
    expect(await (await client.sender('/devices/d1/messages/events')).send(telemetry('on'))).toMatchObject({
      outcome: 'accepted',
    });
  });

  it('answers tokens: wrong key, expired, unknown device, no token at all', async () => {
    using client = await open();
    expect(await client.putToken(audience('d1'), token('d1', 3600, Buffer.alloc(32, 1).toString('base64')))).toBe(401);
    expect(await client.putToken(audience('d1'), token('d1', -3600))).toBe(401);
    expect(await client.putToken(audience('nobody'), token('nobody'))).toBe(404);
    expect(await client.putToken(audience('d1'), 'nonsense')).toBe(401);
    expect(await client.putToken(audience('d1'), token('d1'))).toBe(200);
  });

  it('keeps many devices on one connection apart', async () => {
    using client = await open();
    for (const id of ['d1', 'd2']) expect(await client.putToken(audience(id), token(id))).toBe(200);
    const one = await client.sender('/devices/d1/messages/events');
    const two = await client.sender(`amqps://${HUB_HOST_NAME}:5671/devices/d2/messages/events`);
    expect(await one.send(telemetry('1'))).toMatchObject({ outcome: 'accepted' });
    expect(await two.send(telemetry('2'))).toMatchObject({ outcome: 'accepted' });
    const other = await client.sender('/devices/d3/messages/events');
    expect(await other.closed).toMatchObject({ condition: 'amqp:unauthorized-access' });
    await backEnd.call('registry', 'update', { deviceId: 'd2', status: 'disabled' });
    expect(await two.closed).toMatchObject({ condition: 'amqp:unauthorized-access' });
    expect(await one.send(telemetry('3'))).toMatchObject({ outcome: 'accepted' });
    expect(await client.putToken(audience('d2'), token('d2'))).toBe(403);
    await backEnd.call('registry', 'update', { deviceId: 'd2', status: 'enabled' });
  });

  const policyToken = (resource: string, lifeSecs = 3600): string =>
    sasToken(resource, hub.ownerKey, lifeSecs, 'iothubowner');

  it('renews the token of a policy for all devices that it let in, whatever became of some of them', async () => {
    using client = await open();
    const devices = `${HUB_HOST_NAME}/devices`;
    using other = await open();
    const soonOver = policyToken(devices, ENDS_SOON_SECS);
    for (const connection of [client, other]) expect(await connection.putToken(devices, soonOver)).toBe(200);
    const unrenewed = await other.sender('/devices/d3/messages/events');
    const attach = (id: string): Promise<TestSender> => client.sender(`/devices/${id}/messages/events`);
    const gone = await attach('d4');
    const staying = await attach('d5');
    gone.link.close();
    await gone.closed;
    await backEnd.call('registry', 'update', { deviceId: 'd4', status: 'disabled' });
    expect(await client.putToken(devices, policyToken(devices))).toBe(200);
    await backEnd.call('registry', 'update', { deviceId: 'd4', status: 'enabled' });
    expect(await (await attach('d4')).send(telemetry('back'))).toMatchObject({ outcome: 'accepted' });
    // Where the first token was not renewed it is over.
    await unrenewed.closed;
    expect(await staying.send(telemetry('on'))).toMatchObject({ outcome: 'accepted' });
  });

  it('goes on with the token of a policy that is valid, where another one is over', async () => {
    using client = await open();
    const devices = `${HUB_HOST_NAME}/devices`;
    expect(await client.putToken(devices, policyToken(devices, ENDS_SOON_SECS))).toBe(200);
    const first = await client.sender('/devices/d4/messages/events');
    expect(await client.putToken(HUB_HOST_NAME, policyToken(HUB_HOST_NAME))).toBe(200);
    expect(await first.closed).toMatchObject({ condition: 'amqp:unauthorized-access' });
    for (const id of ['d4', 'd5']) {
      const link = await client.sender(`/devices/${id}/messages/events`);
      expect(await link.send(telemetry('on'))).toMatchObject({ outcome: 'accepted' });
    }
  });

  it('takes batches all or none, and refuses what is too large or no text', async () => {
    using client = await open();
    await client.putToken(audience('d1'), token('d1'));
    using reading = await open();
    const policy = sasToken(HUB_HOST_NAME, hub.ownerKey, 3600, 'iothubowner');
    expect(await reading.putToken(HUB_HOST_NAME, policy)).toBe(200);
    const link = await client.sender('/devices/d1/messages/events');
    const batch = (bodies: readonly string[]): Buffer =>
      codec.encode({ body: codec.data_sections(bodies.map((text) => codec.encode(telemetry(text)))) });
    const from = Date.now() - 1;
    const filter = rhea.filter.selector(`amqp.annotation.x-opt-enqueued-time > '${from}'`);
    const readers = await Promise.all(
      [0, 1, 2, 3].map((p) =>
        reading.receiver('', { source: { address: `hub/ConsumerGroups/$Default/Partitions/${p}`, filter } }),
      ),
    );
    expect(await link.send(batch(['b1', 'b2', 'b3']), BATCH)).toMatchObject({ outcome: 'accepted' });
    // A message that is too large, and a batch that is so as a whole.
    for (const bytes of [300_000, 100_000]) {
      expect(await link.send(batch(['x'.repeat(200_000), 'y'.repeat(bytes)]), BATCH)).toMatchObject({
        outcome: 'rejected',
        error: { condition: 'amqp:link:message-size-exceeded' },
      });
    }
    // Side by side in one turn: each gets its own answer.
    const mixed = await Promise.all([
      link.send(telemetry('good')),
      link.send(telemetry('n', { application_properties: { n: 7 } })),
      link.send(Buffer.from('no batch'), BATCH),
      link.send(telemetry('fine')),
    ]);
    expect(mixed.map(({ outcome }) => outcome)).toEqual(['accepted', 'rejected', 'rejected', 'accepted']);
    expect(mixed[1]?.error).toMatchObject({ description: expect.stringContaining('no text') as unknown });
    expect(mixed[2]?.error).toMatchObject({
      condition: 'com.microsoft:argument-error',
      description: expect.stringContaining('batch') as unknown,
    });
    const all = await waitFor(
      () => {
        const found = readers.flatMap(({ received }) => received.map(({ message }) => textOf(message)));
        return found.includes('fine') ? found : undefined;
      },
      { what: 'the last message' },
    );
    expect(all).toEqual(['b1', 'b2', 'b3', 'good', 'fine']);
  });

  it('ends a link with more than a message may have, and goes on with the others', async () => {
    using client = await open();
    await client.putToken(audience('d1'), token('d1'));
    await client.putToken(audience('d3'), token('d3'));
    const large = await client.sender('/devices/d1/messages/events');
    const other = await client.sender('/devices/d3/messages/events');
    void large.send(telemetry('x'.repeat(1_100_000)));
    expect(await large.closed).toMatchObject({ condition: 'amqp:link:message-size-exceeded' });
    expect(await other.send(telemetry('after'))).toMatchObject({ outcome: 'accepted' });
  });

  it('gives a link of one kind to the newest, on one connection and on two', async () => {
    using first = await open();
    using second = await open();
    for (const client of [first, second]) await client.putToken(audience('d4'), token('d4'));
    const one = await first.sender('/devices/d4/messages/events');
    expect(await one.send(telemetry('1'))).toMatchObject({ outcome: 'accepted' });
    const two = await first.sender('/devices/d4/messages/events');
    expect(await one.closed).toMatchObject({ condition: 'amqp:resource-locked' });
    const three = await second.sender('/devices/d4/messages/events');
    const closed = await two.closed;
    expect(closed).toMatchObject({ condition: 'amqp:resource-locked' });
    expect(JSON.parse(closed?.description ?? '{}')).toMatchObject({ errorCode: 409002 });
    expect(await three.send(telemetry('3'))).toMatchObject({ outcome: 'accepted' });
  });

  it('ends links when their token does, not before it is renewed', async () => {
    using client = await open();
    // Within the tolerance for clocks a token lasts so much longer than it says.
    const almostOver = -297;
    await client.putToken(audience('d1'), token('d1', almostOver));
    await client.putToken(audience('d3'), token('d3', almostOver));
    const one = await client.sender('/devices/d1/messages/events');
    const three = await client.sender('/devices/d3/messages/events');
    expect(await client.putToken(audience('d3'), token('d3', 600))).toBe(200);
    expect(await one.closed).toMatchObject({ condition: 'amqp:unauthorized-access' });
    expect(await three.send(telemetry('still'))).toMatchObject({ outcome: 'accepted' });
  });

  it('sends a command again that was released, and none after it was settled', async () => {
    using client = await open();
    await client.putToken(audience('d5'), token('d5'));
    using service = await open();
    await service.putToken(HUB_HOST_NAME, sasToken(HUB_HOST_NAME, hub.ownerKey, 3600, 'iothubowner'));
    const sending = await service.sender('/messages/devicebound');
    const command = { to: '/devices/d5/messages/devicebound', message_id: 'c', application_properties: { a: 'b' } };
    expect(await sending.send(telemetry('go', command))).toMatchObject({ outcome: 'accepted' });
    expect(await sending.send(telemetry('go', { to: 'd5' }))).toMatchObject({
      outcome: 'rejected',
      error: { condition: 'amqp:not-allowed' },
    });
    const link = await client.receiver('/devices/d5/messages/deviceBound', { autoaccept: false, rcv_settle_mode: 1 });
    const first = await link.at(0);
    expect(first.message).toMatchObject({ message_id: 'c', application_properties: { a: 'b' } });
    expect(first.delivery.tag).toHaveLength(16);
    first.delivery.update(
      false,
      (rhea as unknown as { message: { released(): { described(): unknown } } }).message.released().described(),
    );
    const again = await link.at(1);
    expect(again.message['message_annotations']).toMatchObject({ 'iothub-deliverycount': 1 });
    again.delivery.accept();
    await waitFor(() => again.delivery.remote_settled, { what: 'the settlement of the hub' });
    const device = (await backEnd.call('registry', 'get', 'd5')) as { cloudToDeviceMessageCount: number };
    expect(device.cloudToDeviceMessageCount).toBe(0);
  });

  it.each([['sender'], ['receiver']] as const)('sends a %s of messages/events to the events endpoint', async (role) => {
    using client = await open();
    // As `@azure/event-hubs` 2 asks for it.
    const resource = `sb://${HUB_HOST_NAME}/messages/events/$management`;
    await client.putToken(resource, sasToken(resource, hub.ownerKey, 3600, 'iothubowner'));
    const address = `amqps://${HUB_HOST_NAME}/messages/events/$management`;
    const link = await (role === 'sender' ? client.sender(address) : client.receiver(address));
    expect(await link.closed).toMatchObject({
      condition: 'amqp:link:redirect',
      info: { hostname: HUB_HOST_NAME, port: 5671, address: `amqps://${HUB_HOST_NAME}:5671/hub/$management` },
    });
  });

  it('lets in by SASL PLAIN, as a device and as a policy', async () => {
    using device = await open({ username: 'd1@sas.hub', password: token('d1') });
    const events = await device.sender('/devices/d1/messages/events');
    expect(await events.send(telemetry('plain'))).toMatchObject({ outcome: 'accepted' });
    const password = sasToken(HUB_HOST_NAME, hub.ownerKey, 3600, 'iothubowner');
    using policy = await open({ username: 'iothubowner@sas.root.hub', password });
    const link = await policy.receiver('messages/events/');
    expect(await link.closed).toMatchObject({ condition: 'amqp:link:redirect' });
    await expect(
      open({ username: 'd1@sas.hub', password: token('d1', 60, OTHER_KEY.replace('C', 'D')) }),
    ).rejects.toThrow('disconnected');
    // The right token, and the name of another hub.
    await expect(open({ username: 'd1@sas.other', password: token('d1') })).rejects.toThrow('disconnected');
    await expect(open({ username: 'iothubowner@sas.root.other', password })).rejects.toThrow('disconnected');
  });

  it('ends what a message asks to end, where faults may be injected', async () => {
    using client = await open();
    await client.putToken(audience('d1'), token('d1'));
    const link = await client.sender('/devices/d1/messages/events');
    const fault = (type: string): Message =>
      telemetry('', { application_properties: { AzIoTHub_FaultOperationType: type } });
    void link.send(fault('KillAmqpD2CLink'));
    expect(await link.closed).toMatchObject({ condition: 'amqp:link:detach-forced' });
    const next = await client.sender('/devices/d1/messages/events');
    void next.send(fault('KillAmqpConnection'));
    expect(await client.closed).toMatchObject({ condition: 'amqp:internal-error' });
  });

  const HEADER = Buffer.from('AMQP\0\x01\0\0', 'latin1');
  const frame = (body: readonly number[]): Buffer => {
    const bytes = Buffer.from([0, 0, 0, 0, 2, 0, 0, 0, ...body]);
    bytes.writeUInt32BE(bytes.byteLength, 0);
    return bytes;
  };

  it.each([
    ['a frame of a gigabyte', Buffer.concat([HEADER, Buffer.from([0x40, 0, 0, 0, 2, 0, 0, 0])])],
    ['a frame without a size', Buffer.concat([HEADER, Buffer.alloc(8)])],
    [
      'an array of a billion nulls',
      Buffer.concat([HEADER, frame([0, 0x53, 0x10, 0xf0, 0, 0, 0, 9, 0x40, 0, 0, 0, 0x40])]),
    ],
    ['a list of a billion fields', Buffer.concat([HEADER, frame([0, 0x53, 0x10, 0xd0, 0, 0, 0, 8, 0x40, 0, 0, 0])])],
    ['another protocol', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['noise', Buffer.alloc(512, 0xa5)],
  ])('closes on %s, and nobody else notices', async (_what, bytes) => {
    using other = await open();
    await other.putToken(audience('d1'), token('d1'));
    const link = await other.sender('/devices/d1/messages/events');
    const socket = connect({ host: ADDRESS, port: PORT });
    socket.on('error', () => {});
    socket.resume();
    socket.write(bytes);
    await new Promise((resolve) => socket.on('close', resolve));
    expect(await link.send(telemetry('unharmed'))).toMatchObject({ outcome: 'accepted' });
  });

  it('keeps what it accepted through a kill', async () => {
    const accepted: string[] = [];
    const client = await open();
    await client.putToken(audience('d1'), token('d1'));
    const link = await client.sender('/devices/d1/messages/events');
    let killed: Promise<unknown> | undefined;
    for (let n = 0; n < 5000 && killed === undefined; n += 50) {
      const results = Array.from({ length: 50 }, (_, i) =>
        link.send(telemetry(`k${n + i}`)).then(({ outcome }) => outcome === 'accepted' && accepted.push(`k${n + i}`)),
      );
      if (n >= 500) killed = hub.kill('SIGKILL');
      else await Promise.all(results);
    }
    await killed;
    await client.closed;
    hub = await startHubDaemon({ address: ADDRESS, directory, hub: { amqp_port: PORT }, ports: [443, PORT] });
    using reading = await open();
    await reading.putToken(HUB_HOST_NAME, sasToken(HUB_HOST_NAME, hub.ownerKey, 3600, 'iothubowner'));
    const readers = await Promise.all(
      [0, 1, 2, 3].map((p) => reading.receiver(`hub/ConsumerGroups/$Default/Partitions/${p}`)),
    );
    const found = (): readonly string[] =>
      readers.flatMap(({ received }) => received.map(({ message }) => textOf(message)));
    await waitFor(() => accepted.every((text) => found().includes(text)), { what: 'all that was accepted' });
    expect(accepted.length).toBeGreaterThanOrEqual(500);
  });
});

function textOf(message: Message): string {
  return (message.body as { content: Buffer }).content.toString();
}
