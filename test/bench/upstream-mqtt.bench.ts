// From the outbox on disk through the pump and the MQTT transport to Mosquitto, over an MQTT client that only publishes.

import { join } from 'node:path';
import mqtt from 'mqtt';
import { createMqttTransport } from '../../modules/upstream-mqtt/transport.ts';
import { mqttUpstreamConfig } from '../../modules/upstream-mqtt/config.ts';
import { parseDeviceId } from '../../src/core/device.ts';
import type { Logger } from '../../src/core/log.ts';
import type { Outbox } from '../../src/core/outbox.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { createEndpointRunner } from '../../src/upstream/endpoint-runner.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { waitFor } from '../support/wait.ts';
import { atLeast, median, perSecond, ratioOf, whole, type BenchContext, type BenchRow } from './bench.ts';
import { openBenchOutbox, payloads, polledEntry } from './store-load.ts';

const WINDOW = 256;
const BODY_BYTES = 256;
const DEVICES = 50;
const GATEWAY_ID = parseDeviceId('gateway-1');
/** Acknowledged before the clock starts: the connection stands and the window is full. */
const HEAD_START = 2000;
const BAR = 0.9;

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => SILENT };
const bodies = payloads(4096, BODY_BYTES);

function body(index: number): Buffer {
  return bodies[index % bodies.length] ?? Buffer.alloc(BODY_BYTES);
}

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const messages = context.quick ? 30_000 : 100_000;
  await using broker = await startMosquitto({ address: '127.0.80.2', lines: ['log_type none'] });
  const rounds = context.quick ? 5 : 9;
  const rates: Record<'ours' | 'plain' | 'withId', number[]> = { ours: [], plain: [], withId: [] };
  for (let round = 0; round < rounds; round += 1) {
    // Filled before the others have their turn, so that what LevelDB tidies up after the filling is over.
    const outbox = await filledOutbox(join(context.directory, `store-${round}`), messages);
    rates.plain.push(await bare(broker.url, messages, {}));
    rates.ours.push(await throughOutbox(broker.url, outbox, messages));
    rates.withId.push(await bare(broker.url, messages, { userProperties: { 'message-id': 'k3f9x.meter-17.123456' } }));
    await outbox.close();
  }
  return [
    {
      what: 'outbox → MQTT 5 QoS 1 to a local Mosquitto, over a bare mqtt client with the same window (256), 256 B',
      measured: `${whole(median(rates.ours))}/s over ${whole(median(rates.plain))}/s, medians of ${rounds} rounds of ${whole(messages)}; ${ratioOf(rates.ours, rates.withId).toFixed(2)} × a bare client that sends the message's id with it`,
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
async function throughOutbox(url: string, outbox: Outbox, messages: number): Promise<number> {
  const clock = new SystemClock();
  const config = mqttUpstreamConfig.parse({ url, window: WINDOW });
  const runner = createEndpointRunner({
    name: '$upstream',
    endpoint: createMqttTransport(config, { endpointName: '$upstream', gatewayId: GATEWAY_ID, clock, log: SILENT }),
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

async function bare(
  url: string,
  messages: number,
  properties: mqtt.IClientPublishOptions['properties'],
): Promise<number> {
  const client = await mqtt.connectAsync(url, { protocolVersion: 5, reconnectPeriod: 0 });
  // mqtt.js leaves Nagle's algorithm on, which is not what is compared here.
  (client.stream as { setNoDelay?: (on: boolean) => void }).setNoDelay?.(true);
  let sent = 0;
  let acknowledged = 0;
  let startedMs = 0;
  await new Promise<void>((resolve, reject) => {
    const publish = (): void => {
      sent += 1;
      client.publish(
        `fieldpost/gateway-1/meter-${sent % DEVICES}/telemetry`,
        body(sent),
        { qos: 1, properties: properties ?? {} },
        onDone,
      );
    };
    const onDone = (error?: Error | null): void => {
      if (error) return reject(error);
      acknowledged += 1;
      if (acknowledged === HEAD_START) startedMs = performance.now();
      if (acknowledged === messages) return resolve();
      if (sent < messages) publish();
    };
    for (let index = 0; index < WINDOW; index += 1) publish();
  });
  const rate = perSecond(messages - HEAD_START, performance.now() - startedMs);
  await client.endAsync();
  return rate;
}
