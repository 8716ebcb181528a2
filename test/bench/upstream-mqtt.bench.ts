// From the outbox on disk through the pump and the MQTT transport to Mosquitto, over an MQTT client that only publishes.

import { join } from 'node:path';
import mqtt from 'mqtt';
import { createMqttTransport } from '../../modules/upstream-mqtt/transport.ts';
import { mqttUpstreamConfig } from '../../modules/upstream-mqtt/config.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { atLeast, median, perSecond, ratioOf, whole, type BenchContext, type BenchRow } from './bench.ts';
import { body, DEVICES, filledOutbox, throughOutbox } from './upstream-load.ts';

const WINDOW = 256;
/** Acknowledged before the clock starts: the connection stands and the window is full. */
const HEAD_START = 2000;
const BAR = 0.9;

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const messages = context.quick ? 30_000 : 100_000;
  await using broker = await startMosquitto({ address: '127.0.80.2', lines: ['log_type none'] });
  const config = mqttUpstreamConfig.parse({ url: broker.url, window: WINDOW });
  const rounds = context.quick ? 5 : 9;
  const rates: Record<'ours' | 'plain' | 'withId', number[]> = { ours: [], plain: [], withId: [] };
  for (let round = 0; round < rounds; round += 1) {
    // Filled before the others have their turn, so that what LevelDB tidies up after the filling is over.
    const outbox = await filledOutbox(join(context.directory, `store-${round}`), messages);
    rates.plain.push(await bare(broker.url, messages, {}));
    rates.ours.push(
      await throughOutbox(outbox, (endpoint) => createMqttTransport(config, endpoint), messages, HEAD_START),
    );
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
