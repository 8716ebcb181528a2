// What the way through the outbox costs beside a bare `mqtt` client: the same messages, broker, window and QoS.

import { join } from 'node:path';
import mqtt, { type IClientPublishOptions } from 'mqtt';
import { systemRandom } from '../../src/platform/random.ts';
import { createEndpointRunner } from '../../src/upstream/endpoint-runner.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { clock, mqttTransport } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';
import { atLeast, interleave, median, perSecond, whole, type BenchContext, type BenchRow } from './bench.ts';
import { openBenchOutbox, payloads, polledEntry } from './store-load.ts';

const WINDOW = 256;
const BODY_BYTES = 256;
const APPEND_MESSAGES = 1000;
const body = payloads(1, BODY_BYTES)[0] ?? Buffer.alloc(BODY_BYTES);

type Version = '3.1.1' | 5;

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  await using broker = await startMosquitto({ address: '127.0.50.9' });
  const count = context.quick ? 20_000 : 60_000;
  const rounds = context.quick ? 3 : 7;
  const rows: BenchRow[] = [];
  for (const version of ['3.1.1', 5] as const) {
    context.progress(`outbox to MQTT ${version}`);
    let number = 0;
    const [bare = [], ours = []] = await interleave(rounds, [
      () => bareClient(broker.url, version, count),
      () => throughOutbox(join(context.directory, `outbox-${version}-${(number += 1)}`), broker.url, version, count),
    ]);
    rows.push({
      what: `outbox → MQTT ${version} QoS 1 to a local Mosquitto, over a bare mqtt client with the same window (${BODY_BYTES} B)`,
      measured: `${whole(median(ours))} / ${whole(median(bare))} messages a second, ${rounds} rounds`,
      value: median(ours) / median(bare),
      unit: '×',
      bar: atLeast(0.9),
    });
  }
  return rows;
}

/** Messages a second of a client that publishes the next message with every PUBACK. */
async function bareClient(url: string, version: Version, count: number): Promise<number> {
  const client = await mqtt.connectAsync(url, { protocolVersion: version === 5 ? 5 : 4, reconnectPeriod: 0 });
  (client.stream as unknown as { setNoDelay(on: boolean): void }).setNoDelay(true);
  const startedMs = performance.now();
  await new Promise<void>((resolve, reject) => {
    let sent = 0;
    let answered = 0;
    const next = (): void => {
      if (sent === count) return;
      sent += 1;
      const options: IClientPublishOptions = version === 5 ? { qos: 1, properties: properties(sent) } : { qos: 1 };
      client.publish('fieldpost/gateway-1/meter-1/telemetry', body, options, (error) => {
        if (error instanceof Error) reject(error);
        answered += 1;
        if (answered === count) resolve();
        else next();
      });
    };
    for (let index = 0; index < WINDOW; index += 1) next();
  });
  const rate = perSecond(count, performance.now() - startedMs);
  await client.endAsync(true);
  return rate;
}

/** What our own messages carry, so that both sides write the same bytes. */
function properties(seq: number): IClientPublishOptions['properties'] {
  return {
    userProperties: { 'message-id': `abcd.meter-1.${seq}`, 'iothub-creation-time-utc': '2026-01-02T03:04:05.678Z' },
  };
}

/** Messages a second from a full outbox on disk until the last one is accepted. */
async function throughOutbox(directory: string, url: string, version: Version, count: number): Promise<number> {
  const outbox = await openBenchOutbox(directory, { queues: ['$upstream'] });
  const entries = Array.from({ length: APPEND_MESSAGES }, () => polledEntry('meter-1', body));
  for (let stored = 0; stored < count; stored += APPEND_MESSAGES) await outbox.append(entries);
  const runner = createEndpointRunner({
    name: '$upstream',
    endpoint: mqttTransport({ url, protocol_version: version, window: WINDOW }),
    queue: outbox.queue('$upstream'),
    order: 'live_first',
    clockOffset: (bootId) => outbox.clockOffset(bootId),
    clock,
    random: systemRandom,
    telemetry: { emit() {} },
  });
  const startedMs = performance.now();
  await runner.start(new AbortController().signal);
  await waitFor(() => runner.status().deliveredTotal >= count, { timeoutMs: 120_000, everyMs: 2 });
  const rate = perSecond(count, performance.now() - startedMs);
  await runner.stop(AbortSignal.timeout(5000));
  await outbox.close();
  return rate;
}
