// The AMQP transport to IoT Hub against Qpid Proton, another implementation, as a hub that behaves as badly as the specification
// allows: to one device, while another one has to go on as if nothing were.

import { createRequire } from 'node:module';
import rhea, { type EventContext, type Sender } from 'rhea';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createIotHubTransport } from '../../modules/upstream-iothub/transport.ts';
import { iotHubUpstreamConfig } from '../../modules/upstream-iothub/config.ts';
import { parseDeviceId } from '../../src/core/device.ts';
import type { DeliveryResult } from '../../src/core/delivery.ts';
import type { UpstreamTransport } from '../../src/core/endpoint.ts';
import type { StoredMessage } from '../../src/core/message.ts';
import { createAuthority, type Authority } from '../support/certificates.ts';
import { freePort } from '../support/free-port.ts';
import { startProtonPeer, type ProtonPeer } from '../support/proton-peer.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { startTlsRecorder, type TlsRecorder } from '../support/tls-recorder.ts';
import { endpointContext, stored } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.163.2';
const HOST = 'hub.local.test';
const KEY = Buffer.alloc(32, 7).toString('base64');
const GOOD = 'good.accept';
const SOON = (): AbortSignal => AbortSignal.timeout(20_000);

/** What the library writes itself, and does not give out. */
const frames = createRequire(import.meta.url)('rhea/lib/frames.js') as {
  readonly disposition: (fields: object) => unknown;
};
const library = rhea as unknown as {
  readonly message: Readonly<Record<'accepted' | 'released', () => { described(): unknown }>>;
};

const directory = createTempDir('iothub-peer');
let authority: Authority;
let peer: ProtonPeer;
let door: TlsRecorder;
let port: number;
let count = 0;

beforeAll(async () => {
  authority = await createAuthority(directory.path);
  const pair = await authority.issue({ name: 'hub', hosts: [ADDRESS] });
  peer = await startProtonPeer(ADDRESS);
  port = await freePort(ADDRESS);
  door = await startTlsRecorder({ address: ADDRESS, port, pair, target: { host: ADDRESS, port: peer.port } });
});

afterAll(async () => {
  await door[Symbol.asyncDispose]();
  await peer[Symbol.asyncDispose]();
  directory.remove();
});

async function opened(more: object = {}): Promise<UpstreamTransport> {
  const config = iotHubUpstreamConfig.parse({
    host_name: HOST,
    device_id: 'gateway',
    shared_access_key: KEY,
    gateway_host_name: ADDRESS,
    port,
    ca: authority.certificate,
    protocol: 'amqp',
    leaf_devices: { identity: 'group_key', group_key: KEY },
    connect_timeout_ms: 3000,
    ...more,
  });
  const transport = createIotHubTransport(config, endpointContext());
  await transport.open(SOON());
  return transport;
}

/** A device of the test's own with that behaviour. */
function device(behaviour: string): string {
  count += 1;
  return `d${count}.${behaviour}`;
}

const of = (id: string, number = 1): StoredMessage =>
  stored(`${id}-${number}`, number, { deviceId: parseDeviceId(id) });
const addressOf = (id: string): string => `/devices/${id}/messages/events`;
const received = (id: string): readonly unknown[] => peer.of('message', addressOf(id)).map(({ body }) => body);

/** Sends until the hub has taken it. */
async function deliver(transport: UpstreamTransport, message: StoredMessage): Promise<void> {
  await waitFor(
    async () => {
      const [result] = await transport.send([message], SOON());
      if (result?.status === 'rejected') throw new Error(result.reason);
      return result?.status === 'accepted';
    },
    { timeoutMs: 15_000, everyMs: 50, what: 'the hub to take a message' },
  );
}

/** What becomes of a message of one device while another one sends as well. */
async function resultOf(transport: UpstreamTransport, id: string): Promise<DeliveryResult | undefined> {
  const [result, others] = await Promise.all([
    transport.send([of(id)], SOON()),
    transport.send([of(GOOD, 1), of(GOOD, 2)], SOON()),
  ]);
  expect(others).toEqual([{ status: 'accepted' }, { status: 'accepted' }]);
  return result[0];
}

describe('what the hub makes of a message of one device', () => {
  it.each([
    ['accept', { status: 'accepted' }],
    ['unsettled', { status: 'accepted' }],
    ['twice', { status: 'accepted' }],
    ['settle', { status: 'retry', kind: 'transient' }],
    ['release', { status: 'retry', kind: 'transient' }],
    ['modify', { status: 'retry', kind: 'transient' }],
    ['modifyhere', { status: 'rejected' }],
    ['reject', { status: 'rejected', reason: expect.stringContaining('amqp:precondition-failed') as unknown }],
    ['rejectodd', { status: 'rejected', reason: expect.stringContaining('vendor:whatever') as unknown }],
    ['full', { status: 'retry', kind: 'throttled' }],
    ['absent', { status: 'retry', kind: 'unauthorized' }],
    ['forbidden', { status: 'retry', kind: 'unauthorized' }],
  ])('%s', async (behaviour, wanted) => {
    const connections = door.recordings.length;
    const transport = await opened();
    const id = device(behaviour);
    expect(await resultOf(transport, id)).toMatchObject(wanted);
    // Whatever it was, the device's link or the next one is as good as new.
    if (wanted.status === 'accepted') await deliver(transport, of(id, 2));
    await deliver(transport, of(GOOD, 3));
    expect(door.recordings.length).toBe(connections + 1);
    await transport.close();
  });

  it('withholds credit: that device waits, the others go on, and it goes on when there is credit', async () => {
    const transport = await opened();
    const id = device('nocredit');
    const waiting = transport.send([of(id)], SOON());
    await deliver(transport, of(GOOD));
    await waitFor(() => peer.of('attach', addressOf(id)).length === 1, { what: 'the link' });
    expect(received(id)).toEqual([]);
    peer.say(`credit ${addressOf(id)} 1`);
    expect(await waiting).toEqual([{ status: 'accepted' }]);
    await transport.close();
  });

  it('leaves a message unanswered: its link is made anew, the others stand', async () => {
    const transport = await opened({ ack_timeout_ms: 1000 });
    const id = device('silent');
    expect(await resultOf(transport, id)).toMatchObject({ status: 'retry', kind: 'transient' });
    await waitFor(() => peer.of('detached', addressOf(id)).length === 1, { what: 'the end of the link' });
    await deliver(transport, of(GOOD));
    await transport.close();
  });
});

describe('links that a hub ends', () => {
  it.each(['detach', 'detacherror', 'detachodd', 'end'])('%s: made anew, on the same connection', async (behaviour) => {
    const connections = door.recordings.length;
    const transport = await opened();
    const id = device(behaviour);
    for (let number = 1; number <= 4; number += 1) await deliver(transport, of(id, number));
    await deliver(transport, of(GOOD));
    await expect.poll(() => new Set(received(id))).toEqual(new Set([1, 2, 3, 4].map((number) => `${id}-${number}`)));
    await expect.poll(() => peer.of('attach', addressOf(id)).length).toBe(2);
    expect(door.recordings.length).toBe(connections + 1);
    await transport.close();
  });

  it.each(['close', 'drop'])(
    '%s of the connection with transfers under way: told once, with none lost',
    async (how) => {
      const transport = await opened();
      const id = device(how);
      // On a link that is open each goes at once, and not with others in a batch.
      await deliver(transport, of(id, 0));
      const sends = Array.from({ length: 6 }, (_, index) => transport.send([of(id, index + 1)], SOON()));
      const results = (await Promise.all(sends)).flat();
      expect(await transport.closed()).toMatchObject({ kind: 'transient' });
      for (const result of results) expect(result.status).toMatch(/accepted|retry/);
      expect(results.filter(({ status }) => status === 'accepted').length).toBeLessThan(results.length);
      await transport.open(SOON());
      for (const [index, { status }] of results.entries())
        if (status === 'retry') await deliver(transport, of(id, index + 1));
      await expect.poll(() => new Set(received(id)).size).toBe(7);
      await transport.close();
    },
  );
});

describe('tokens at a hub that treats them badly', () => {
  it.each([
    ['tokenrefuse', { kind: 'unauthorized' }],
    ['tokenodd', {}],
    ['tokenmute', {}],
    ['tokenreject', {}],
  ])('%s: that device waits, and the others go on', async (behaviour, wanted) => {
    const transport = await opened({ connect_timeout_ms: 1000 });
    const id = device(behaviour);
    expect(await resultOf(transport, id)).toMatchObject({ status: 'retry', ...wanted });
    expect(peer.of('attach', addressOf(id))).toEqual([]);
    await deliver(transport, of(GOOD, 3));
    await transport.close();
  });

  it('tokendetach: the links for tokens are made anew for the next one, on the same connection', async () => {
    const connections = door.recordings.length;
    const transport = await opened();
    expect(await transport.send([of(device('tokendetach'))], SOON())).toMatchObject([{ status: 'retry' }]);
    await deliver(transport, of(device('accept')));
    await deliver(transport, of(GOOD));
    expect(door.recordings.length).toBe(connections + 1);
    await transport.close();
  });
});

describe('dispositions that no library writes', () => {
  interface Raw {
    /** On the session of the message that came last: deliveries FIRST to LAST are settled so. */
    settle(first: number, last: number, outcome: 'accepted' | 'released'): void;
    readonly came: () => number;
    readonly where: { readonly port: number };
    readonly close: () => Promise<void>;
  }

  /** A hub that takes every token and answers to no message by itself. */
  async function rawHub(): Promise<Raw> {
    const container = rhea.create_container({ receiver_options: { autoaccept: false, credit_window: 100 } });
    let session: { output(frame: unknown): void } | undefined;
    let came = 0;
    container.on('error', () => {});
    container.on('disconnected', () => {});
    container.on('receiver_open', ({ receiver }: EventContext) =>
      receiver?.set_target({ address: receiver.target.address }),
    );
    container.on('sender_open', ({ sender }: EventContext) => sender?.set_source({ address: sender.source.address }));
    container.on('message', ({ connection, delivery, message, receiver }: EventContext) => {
      if (receiver?.target.address === '$cbs') {
        delivery?.accept();
        const answers = connection.find_sender((link: Sender) => link.source.address === '$cbs');
        answers?.send({
          body: '',
          correlation_id: message?.message_id ?? '',
          application_properties: { 'status-code': 200 },
        });
        return;
      }
      session = receiver?.session as unknown as typeof session;
      came += 1;
    });
    const [plainPort, tlsPort] = [await freePort(ADDRESS), await freePort(ADDRESS)];
    const server = container.listen({ host: ADDRESS, port: plainPort });
    const pair = await authority.issue({ name: 'raw', hosts: [ADDRESS] });
    const target = { host: ADDRESS, port: plainPort };
    const front = await startTlsRecorder({ address: ADDRESS, port: tlsPort, pair, target });
    return {
      settle: (first, last, outcome) => {
        const state = library.message[outcome]().described();
        session?.output(frames.disposition({ role: true, first, last, settled: true, state }));
      },
      came: () => came,
      where: { port: tlsPort },
      close: async () => {
        await front[Symbol.asyncDispose]();
        server.close();
      },
    };
  }

  it('twice, of what is not sent yet, of what was never sent: each message has the outcome that is its own', async () => {
    const hub = await rawHub();
    const transport = await opened(hub.where);
    const first = transport.send([of(GOOD, 1)], SOON());
    await waitFor(() => hub.came() === 1, { what: 'the first message' });
    hub.settle(1, 1, 'accepted');
    hub.settle(5000, 6000, 'accepted');
    hub.settle(0, 0, 'accepted');
    hub.settle(0, 0, 'released');
    expect(await first).toEqual([{ status: 'accepted' }]);
    const second = transport.send([of(GOOD, 2)], SOON());
    await waitFor(() => hub.came() === 2, { what: 'the second message' });
    hub.settle(0, 60_000, 'released');
    expect(await second).toMatchObject([{ status: 'retry', kind: 'transient' }]);
    const third = transport.send([of(GOOD, 3)], SOON());
    await waitFor(() => hub.came() === 3, { what: 'the third message' });
    hub.settle(2, 2, 'accepted');
    expect(await third).toEqual([{ status: 'accepted' }]);
    await transport.close();
    await hub.close();
  });
});
