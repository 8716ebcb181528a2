// From the outbox on disk through the pump and the AMQP transport to RabbitMQ, over a bare sender of the `rhea` library.

import { join } from 'node:path';
import rhea from 'rhea';
import { createAmqpTransport } from '../../modules/upstream-amqp/transport.ts';
import { amqpUpstreamConfig } from '../../modules/upstream-amqp/config.ts';
import { RABBITMQ_WITNESS, startRabbitMq, type RabbitMq } from '../support/rabbitmq.ts';
import { atLeast, median, perSecond, ratioOf, whole, type BenchContext, type BenchRow } from './bench.ts';
import { body, DEVICES, filledOutbox, throughOutbox } from './upstream-load.ts';

const WINDOW = 256;
/** Nothing is bound to it, so that the broker keeps nothing. */
const TARGET = '/exchange/amq.topic/bench';
/** Acknowledged before the clock starts: the connection stands and the window is full. */
const HEAD_START = 1000;
const BAR = 0.9;

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const messages = context.quick ? 15_000 : 50_000;
  const rounds = context.quick ? 3 : 7;
  await using broker = await startRabbitMq({ address: '127.0.142.4', queues: [] });
  const config = amqpUpstreamConfig.parse({ url: broker.url, address: TARGET, window: WINDOW, ...RABBITMQ_WITNESS });
  const rates: Record<'ours' | 'plain', number[]> = { ours: [], plain: [] };
  for (let round = 0; round < rounds; round += 1) {
    const outbox = await filledOutbox(join(context.directory, `store-${round}`), messages);
    rates.plain.push(await bare(broker, messages));
    rates.ours.push(
      await throughOutbox(outbox, (endpoint) => createAmqpTransport(config, endpoint), messages, HEAD_START),
    );
    await outbox.close();
  }
  return [
    {
      what: 'outbox → AMQP 1.0 to a local RabbitMQ, over a bare rhea sender with the same unsettled window (256), 256 B',
      measured: `${whole(median(rates.ours))}/s over ${whole(median(rates.plain))}/s, medians of ${rounds} rounds of ${whole(messages)}`,
      value: ratioOf(rates.ours, rates.plain),
      unit: '×',
      bar: atLeast(BAR),
    },
  ];
}

async function bare({ address, port }: RabbitMq, messages: number): Promise<number> {
  const container = rhea.create_container();
  const connection = container.connect({
    host: address,
    port,
    ...RABBITMQ_WITNESS,
    reconnect: false,
    ...({ tcp_no_delay: true } as object),
  });
  const sender = connection.open_sender(TARGET);
  let sent = 0;
  let accepted = 0;
  let startedMs = 0;
  const done = Promise.withResolvers<void>();
  const fill = (): void => {
    while (sent < messages && sent - accepted < WINDOW && sender.sendable()) {
      sent += 1;
      sender.send({
        durable: true,
        message_id: `k3f9x.meter-17.${sent}`,
        application_properties: { device_id: `meter-${sent % DEVICES}` },
        body: rhea.message.data_section(body(sent)),
      });
    }
  };
  sender.on('sendable', fill);
  sender.on('accepted', () => {
    accepted += 1;
    if (accepted === HEAD_START) startedMs = performance.now();
    if (accepted === messages) done.resolve();
    else fill();
  });
  await done.promise;
  const rate = perSecond(messages - HEAD_START, performance.now() - startedMs);
  connection.close();
  return rate;
}
