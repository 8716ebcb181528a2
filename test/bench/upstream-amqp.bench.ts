// From the outbox on disk through the pump and the AMQP transport to RabbitMQ, over a bare sender of the `rhea` library.

import { join } from 'node:path';
import rhea from 'rhea';
import { createAmqpTransport } from '../../modules/upstream-amqp/transport.ts';
import { amqpUpstreamConfig } from '../../modules/upstream-amqp/config.ts';
import { parseDeviceId } from '../../src/core/device.ts';
import type { Logger } from '../../src/core/log.ts';
import type { Outbox } from '../../src/core/outbox.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { createEndpointRunner } from '../../src/upstream/endpoint-runner.ts';
import { RABBITMQ_WITNESS, startRabbitMq, type RabbitMq } from '../support/rabbitmq.ts';
import { waitFor } from '../support/wait.ts';
import { atLeast, median, perSecond, ratioOf, whole, type BenchContext, type BenchRow } from './bench.ts';
import { openBenchOutbox, payloads, polledEntry } from './store-load.ts';

const WINDOW = 256;
const BODY_BYTES = 256;
const DEVICES = 50;
const GATEWAY_ID = parseDeviceId('gateway-1');
/** Nothing is bound to it, so that the broker keeps nothing. */
const TARGET = '/exchange/amq.topic/bench';
/** Acknowledged before the clock starts: the connection stands and the window is full. */
const HEAD_START = 1000;
const BAR = 0.9;

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => SILENT };
const bodies = payloads(4096, BODY_BYTES);

function body(index: number): Buffer {
  return bodies[index % bodies.length] ?? Buffer.alloc(BODY_BYTES);
}

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const messages = context.quick ? 15_000 : 50_000;
  const rounds = context.quick ? 3 : 7;
  await using broker = await startRabbitMq({ address: '127.0.142.4', queues: [] });
  const rates: Record<'ours' | 'plain', number[]> = { ours: [], plain: [] };
  for (let round = 0; round < rounds; round += 1) {
    const outbox = await filledOutbox(join(context.directory, `store-${round}`), messages);
    rates.plain.push(await bare(broker, messages));
    rates.ours.push(await throughOutbox(broker, outbox, messages));
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

async function filledOutbox(directory: string, messages: number): Promise<Outbox> {
  const outbox = await openBenchOutbox(directory, { queues: ['$upstream'] });
  for (let next = 0; next < messages; next += 500) {
    await outbox.append(
      Array.from({ length: 500 }, (_, index) => polledEntry(`meter-${index % DEVICES}`, body(next + index))),
    );
  }
  return outbox;
}

/** Messages a second between the head start and the last acknowledgement. */
async function throughOutbox({ url }: RabbitMq, outbox: Outbox, messages: number): Promise<number> {
  const clock = new SystemClock();
  const config = amqpUpstreamConfig.parse({ url, address: TARGET, window: WINDOW, ...RABBITMQ_WITNESS });
  const runner = createEndpointRunner({
    name: '$upstream',
    endpoint: createAmqpTransport(config, { endpointName: '$upstream', gatewayId: GATEWAY_ID, clock, log: SILENT }),
    queue: outbox.queue('$upstream'),
    order: 'live_first',
    clockOffset: (bootId) => outbox.clockOffset(bootId),
    clock,
    random: systemRandom,
    telemetry: { emit() {} },
  });
  const never = new AbortController().signal;
  await runner.start(never);
  const delivered = (): number => runner.status().deliveredTotal;
  await waitFor(() => delivered() >= HEAD_START, { everyMs: 1, timeoutMs: 20_000, what: 'the head start' });
  const [startedMs, from] = [performance.now(), delivered()];
  await waitFor(() => delivered() === messages, { everyMs: 2, timeoutMs: 120_000, what: 'all to be delivered' });
  const rate = perSecond(messages - from, performance.now() - startedMs);
  await runner.stop(never);
  return rate;
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
