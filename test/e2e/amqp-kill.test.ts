// The daemon killed while it sends to RabbitMQ what MQTT devices publish: whatever was acknowledged to them arrives, and
// commands come out of a queue and are answered.

import mqtt from 'mqtt';
import rhea, { type EventContext } from 'rhea';
import { expect, it } from 'vitest';
import { witnessAmqp } from '../support/amqp-rig.ts';
import { freePort } from '../support/free-port.ts';
import { RABBITMQ_USER, RABBITMQ_WITNESS, startRabbitMq } from '../support/rabbitmq.ts';
import { waitFor } from '../support/wait.ts';
import { startDaemon, temporaryDirectory } from './daemon-process.ts';

const ADDRESS = '127.0.142.3';
const LIVES = 3;

it('loses nothing that was acknowledged, and answers commands', { timeout: 120_000 }, async () => {
  using directory = temporaryDirectory();
  const [port, webPort] = [await freePort(ADDRESS), await freePort(ADDRESS)];
  const queues = ['fieldpost.a', 'fieldpost.b', 'fieldpost.plant-7.commands', 'replies'];
  await using broker = await startRabbitMq({ address: ADDRESS, queues });
  const config = `
gateway: { id: plant-7 }
adapters:
  field:
    type: mqtt
    listen: { address: ${ADDRESS}, port: ${port} }
    anonymous: loopback
    max_messages_per_sec: 0
    topics: [{ topic: 'sensors/{device_id}/telemetry' }]
upstream:
  type: amqp
  url: ${broker.url}
  address: '/amq/queue/fieldpost.{device_id}'
  command_address: '/amq/queue/fieldpost.{gateway_id}.commands'
  username: ${RABBITMQ_USER.username}
  password: ${RABBITMQ_USER.password}
outbox: { min_free_bytes: 0 }
web: { address: ${ADDRESS}, port: ${webPort} }
`;
  const witnesses = [
    await witnessAmqp(broker, RABBITMQ_WITNESS, '/amq/queue/fieldpost.a'),
    await witnessAmqp(broker, RABBITMQ_WITNESS, '/amq/queue/fieldpost.b'),
  ];
  const arrived = (): Set<string> => new Set(witnesses.flatMap(({ texts }) => texts));
  const acknowledged = new Set<string>();
  let daemon = await startDaemon({ config, web: `${ADDRESS}:${webPort}`, directory });
  for (let life = 0; life < LIVES; life += 1) {
    const device = await mqtt.connectAsync(`mqtt://${ADDRESS}:${port}`, { reconnectPeriod: 0 });
    device.on('error', () => {});
    const target = acknowledged.size + 400;
    for (let count = 0; count < 3000; count += 1) {
      const body = `life-${life}-${count}`;
      device.publish(`sensors/${count % 2 === 0 ? 'a' : 'b'}/telemetry`, body, { qos: 1 }, (error) => {
        if (error === undefined || error === null) acknowledged.add(body);
      });
    }
    await waitFor(() => acknowledged.size >= target && arrived().size > life * 100, {
      timeoutMs: 20_000,
      everyMs: 1,
      what: 'some to be acknowledged, and to arrive',
    });
    await daemon.kill('SIGKILL');
    device.end(true);
    daemon = await startDaemon({ config, web: `${ADDRESS}:${webPort}`, directory });
  }
  const missing = (): string[] => {
    const there = arrived();
    return [...acknowledged].filter((body) => !there.has(body));
  };
  await waitFor(() => missing().length === 0, { timeoutMs: 30_000, everyMs: 50, what: 'all to arrive' });

  const answers: { readonly id: string; readonly status: number; readonly correlationId: unknown }[] = [];
  const container = rhea.create_container();
  container.on('disconnected', () => {});
  const connection = container.connect({ host: ADDRESS, port: broker.port, reconnect: false, ...RABBITMQ_WITNESS });
  connection.on('message', ({ message }: EventContext) => {
    if (message === undefined) return;
    const { content } = message.body as { readonly content: Buffer };
    answers.push({
      ...(JSON.parse(content.toString()) as { id: string; status: number }),
      correlationId: message.correlation_id,
    });
  });
  connection.open_receiver('/amq/queue/replies');
  const sender = connection.open_sender('/amq/queue/fieldpost.plant-7.commands');
  await waitFor(() => sender.sendable(), { what: 'credit' });
  const command = (id: string, more: object): void => {
    const application_properties = { device_id: 'nobody' };
    const body = rhea.message.data_section(Buffer.from(JSON.stringify({ id, values: { relay: true } })));
    sender.send({ body, application_properties, reply_to: '/amq/queue/replies', correlation_id: `c-${id}`, ...more });
  };
  command('1', { ttl: 20_000 });
  command('2', {});
  await waitFor(() => answers.length === 2, { timeoutMs: 20_000, what: 'the answers' });
  const answerTo = (id: string): unknown => answers.find((answer) => answer.id === id);
  // 408 where this machine's clock is not synchronised: it cannot tell then whether a command has expired.
  const status = expect.toSatisfy((code: number) => code === 404 || code === 408) as number;
  expect(answerTo('1')).toMatchObject({ status, correlationId: 'c-1' });
  expect(answerTo('2')).toMatchObject({ status: 400, correlationId: 'c-2' });
  connection.close();
  for (const witness of witnesses) witness[Symbol.dispose]();
  await daemon[Symbol.asyncDispose]();
});
