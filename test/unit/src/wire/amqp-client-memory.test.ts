// What a link of the AMQP client keeps: a gateway has thousands of them on one connection. The peer is the library as a server.

import { connect, type AddressInfo, type Server } from 'node:net';
import { queryObjects } from 'node:v8';
import rhea from 'rhea';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { connectAmqp } from '../../../../src/wire/amqp-client.ts';
import type { AmqpClient, AmqpClientSender } from '../../../../src/wire/amqp-client-types.ts';
import { loadRhea } from '../../../../src/wire/amqp-rhea.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const LINKS = 100;
const MAX_BYTES = 12_345;

let server: Server;
let client: AmqpClient;

beforeEach(async () => {
  const container = rhea.create_container({ id: 'peer', receiver_options: { max_message_size: MAX_BYTES } });
  container.on('receiver_open', ({ receiver }) => receiver?.set_target({ address: 'a' }));
  container.on('sender_open', ({ sender }) => sender?.set_source({ address: 'a' }));
  server = container.listen({ port: 0, host: '127.0.0.1' });
  await new Promise((resolve) => server.once('listening', resolve));
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  await new Promise((resolve) => socket.once('connect', resolve));
  client = await connectAmqp({
    socket,
    target: 'peer',
    containerId: 'test',
    hostName: 'localhost',
    sasl: { mechanism: 'NONE' },
    idleTimeoutMs: 60_000,
    timeoutMs: 10_000,
    signal: new AbortController().signal,
    clock: new ManualClock(),
    refused: () => expect.unreachable('refused'),
  });
});

afterEach(async () => {
  await client.end();
  server.close();
  vi.restoreAllMocks();
});

it('keeps no fields of the ATTACHes of a link that stands', async () => {
  vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  const { types } = await loadRhea();
  const { constructor: field } = types.wrap_ulong(1) as { readonly constructor: new () => unknown };
  const count = (): number => queryObjects(field, { format: 'count' });
  const senders: AmqpClientSender[] = [];
  const session = client.openSession();
  const before = count();
  let opened = 0;
  const onOpen = (): void => void (opened += 1);
  const link = { address: 'a', properties: { name: 'value' }, onOpen, onClosed: () => expect.unreachable('closed') };
  for (let index = 0; index < LINKS; index += 1) {
    senders.push(session.openSender({ ...link, window: 1, onCapacity: () => {}, onAnswer: () => {} }));
    session.openReceiver({ ...link, credit: 1, maxMessageBytes: 1024, onDelivery: () => {} });
  }
  await expect.poll(() => opened).toBe(2 * LINKS);
  expect(senders.map(({ maxMessageBytes }) => maxMessageBytes)).toEqual(senders.map(() => MAX_BYTES));
  // The peer's end, in this process too, keeps some 30 a link; so would this one.
  expect((count() - before) / (2 * LINKS)).toBeLessThan(45);
});
