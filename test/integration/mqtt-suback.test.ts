// MQTT 3.1.1, 3.9.3-1: a SUBACK has a code for each filter of its SUBSCRIBE, in order. The bytes of both are written out:
// no client library sends a filter twice.

import { connect, type Socket } from 'node:net';
import { connectAsync } from 'mqtt';
import { expect, it } from 'vitest';
import { createMqttAdapter } from '../../modules/mqtt/adapter.ts';
import { mqttConfig } from '../../modules/mqtt/config.ts';
import { endsAfterEach } from '../support/ends.ts';
import { freePort } from '../support/free-port.ts';
import { waitFor } from '../support/wait.ts';
import { record } from '../unit/modules/mqtt/harness.ts';

const ADDRESS = '127.0.136.1';
const NEVER = new AbortController().signal;
const ends = endsAfterEach();

/** A session that stays, and what comes after its CONNACK. */
async function start(): Promise<{ socket: Socket; received: () => Buffer; url: string }> {
  const port = await freePort(ADDRESS);
  const config = mqttConfig.parse({ listen: { address: ADDRESS, port }, anonymous: 'loopback' });
  const adapter = createMqttAdapter(config, record().context);
  await adapter.start(NEVER);
  ends.push(() => adapter.stop(NEVER));
  const socket = connect({ host: ADDRESS, port });
  const chunks: Buffer[] = [];
  socket.on('data', (bytes: Buffer) => chunks.push(bytes));
  ends.push(() => Promise.resolve(socket.destroy()));
  socket.write(Buffer.from([0x10, 13, 0, 4, ...Buffer.from('MQTT'), 4, 0, 0, 60, 0, 1, 0x61]));
  await waitFor(() => chunks.length > 0, { what: 'CONNACK' });
  expect(Buffer.concat(chunks.splice(0)).toString('hex')).toBe('20020000');
  return { socket, received: () => Buffer.concat(chunks), url: `mqtt://${ADDRESS}:${port}` };
}

function subscribe(messageId: number, ...filters: readonly (readonly [string, number])[]): Buffer {
  const body = filters.flatMap(([filter, qos]) => [0, filter.length, ...Buffer.from(filter), qos]);
  const length = body.length + 2;
  const encoded = length < 128 ? [length] : [(length & 127) | 128, length >> 7];
  return Buffer.from([0x82, ...encoded, messageId >> 8, messageId & 0xff, ...body]);
}

it('answers every filter of a SUBSCRIBE, those that stand twice too', async () => {
  const { socket, received, url } = await start();
  const filters = [
    ['a', 0],
    ['b', 1],
    ['a', 2],
    ['$SYS/#', 1],
    ['b', 0],
    ['$SYS/#', 0],
  ] as const;
  socket.write(subscribe(0x1234, ...filters));
  await waitFor(() => received().length >= 10, { what: 'SUBACK' });
  expect(received().toString('hex')).toBe('90081234000101800080');

  // As if they had come one after the other (3.8.4-4): the last one stands. And one without repetitions as ever.
  socket.write(subscribe(7, ['c', 1], ['d', 0]));
  await waitFor(() => received().length >= 16, { what: 'the second SUBACK' });
  expect(received().subarray(10).toString('hex')).toBe('900400070100');
  const tool = await connectAsync(url);
  ends.push(() => tool.endAsync(true));
  for (const topic of ['a', 'b']) await tool.publishAsync(topic, 'm', { qos: 1 });
  await waitFor(() => received().length >= 16 + 8 + 6, { what: 'the deliveries' });
  const deliveries = received().subarray(16);
  // PUBLISH of `a` with QoS 1 and an identifier, of `b` with QoS 0, each once.
  expect([deliveries[0], deliveries[8], deliveries.length]).toEqual([0x32, 0x30, 14]);
});

it('answers a long SUBSCRIBE of one filter', async () => {
  const { socket, received } = await start();
  socket.write(subscribe(1, ...Array.from({ length: 200 }, () => ['a', 1] as const)));
  await waitFor(() => received().length >= 205, { what: 'SUBACK' });
  expect(received().toString('hex')).toBe(`90ca010001${'01'.repeat(200)}`);
});
