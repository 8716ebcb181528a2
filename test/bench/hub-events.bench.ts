// The built-in events: telemetry over MQTT/TLS → stored → `@azure/event-hubs`, over a bare rhea sender of the same messages →
// the same consumer; and how long a message takes at a thousand a second.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createAuthority } from '../support/certificates.ts';
import { startChild, type Child } from '../support/child.ts';
import {
  atLeast,
  atMost,
  interleave,
  median,
  perSecond,
  quantile,
  ratioOf,
  whole,
  type BenchContext,
  type BenchRow,
} from './bench.ts';
import { RUNTIME_ENVIRONMENT, RUNTIME_FLAGS } from './daemon.ts';
import { openDevice, openService, type HubTarget } from './hub-client.ts';
import { PARTITIONS, startConsumer, type Consumer } from './hub-consumer.ts';
import { startHub } from './hub.ts';
import { startLoad, type LoadOptions } from './mqtt-load.ts';

const ADDRESS = '127.0.101.4';
const DEVICES = 50;
const BODY_BYTES = 256;
const WINDOW = 32;
const MESSAGES_PER_SEC = 1000;

export async function run(context: BenchContext): Promise<readonly BenchRow[]> {
  const { daemon, target } = await startHub(context, { address: ADDRESS, directory: 'hub' });
  await using _ = daemon;
  const service = openService(target);
  await service.createDevices(DEVICES);
  service.close();
  await using bare = await startBareSender(context);
  const caPath = join(context.directory, 'authorities.pem');
  writeFileSync(caPath, `${target.ca}\n${readFileSync(bare.caPath, 'utf8')}`);
  await using hubConsumer = await startConsumer({ address: ADDRESS, port: target.amqpsPort, caPath });
  await using bareConsumer = await startConsumer({ address: ADDRESS, port: bare.port, caPath });

  const count = (context.quick ? 400 : 1000) * DEVICES;
  const rounds = context.quick ? 3 : 5;
  const subject = (): Promise<number> => throughHub(target, hubConsumer, count);
  const other = (): Promise<number> => fromBareSender(bare.child, bareConsumer, count);
  await subject();
  await other();
  const [mine = [], theirs = []] = await interleave(rounds, [subject, other]);
  context.progress(`hub ${mine.map(whole).join(' ')} /s, rhea ${theirs.map(whole).join(' ')} /s`);
  const latenciesMs = await latencies(target, hubConsumer, MESSAGES_PER_SEC * (context.quick ? 10 : 30));
  await daemon.stop();
  return [
    {
      what: `telemetry over MQTT/TLS, ${DEVICES} devices × ${BODY_BYTES} B → stored → \`@azure/event-hubs\`, over a bare rhea sender of the same messages`,
      measured: `${whole(median(mine))}/s over ${whole(median(theirs))}/s, medians of ${rounds} rounds of ${whole(count)}, ${PARTITIONS} partitions, nothing lost`,
      value: ratioOf(mine, theirs),
      unit: '×',
      bar: atLeast(0.6),
    },
    {
      what: `the same at ${whole(MESSAGES_PER_SEC)}/s: device → consumer, p99`,
      measured: `median ${median(latenciesMs).toFixed(1)} ms, p99 ${quantile(latenciesMs, 0.99).toFixed(1)} ms, ${whole(latenciesMs.length)} messages`,
      value: quantile(latenciesMs, 0.99) / 1000,
      unit: 's',
      bar: atMost(0.1),
    },
  ];
}

function loadOptions(target: HubTarget, messages: number): LoadOptions {
  return {
    host: target.address,
    port: target.mqttsPort,
    publishers: DEVICES,
    bodyBytes: BODY_BYTES,
    window: WINDOW,
    messages,
    open: (deviceId) => openDevice(target, deviceId),
    topicOf: (deviceId) => `devices/${deviceId}/messages/events/`,
  };
}

/** Messages a second from the first publish to the last one at the consumer. */
async function throughHub(target: HubTarget, consumer: Consumer, count: number): Promise<number> {
  const received = consumer.receive(count);
  const load = await startLoad(loadOptions(target, count / DEVICES));
  await load.acknowledged;
  const { endMs } = await received;
  load.close();
  return perSecond(count, endMs - load.startedMs);
}

async function latencies(target: HubTarget, consumer: Consumer, count: number): Promise<readonly number[]> {
  const received = consumer.receive(count);
  const load = await startLoad({ ...loadOptions(target, count / DEVICES), perSecond: MESSAGES_PER_SEC });
  await load.acknowledged;
  const { latenciesMs } = await received;
  load.close();
  return latenciesMs;
}

interface BareSender extends AsyncDisposable {
  readonly child: Child;
  readonly port: number;
  readonly caPath: string;
}

function isListening(report: unknown): report is { readonly port: number } {
  return typeof report === 'object' && report !== null && 'port' in report;
}

async function startBareSender({ directory }: BenchContext): Promise<BareSender> {
  const authority = await createAuthority(directory);
  const pair = await authority.issue({ name: 'rhea', hosts: [ADDRESS] });
  const child = startChild(join(import.meta.dirname, 'rhea-events-child.ts'), {
    args: [ADDRESS, pair.certificatePath, pair.keyPath, String(PARTITIONS), String(BODY_BYTES)],
    execArgv: RUNTIME_FLAGS,
    env: RUNTIME_ENVIRONMENT,
  });
  const { port } = await child.next(isListening);
  return { child, port, caPath: authority.certificatePath, [Symbol.asyncDispose]: () => child[Symbol.asyncDispose]() };
}

/** Messages a second from the word to send to the last one at the consumer. */
async function fromBareSender(sender: Child, consumer: Consumer, count: number): Promise<number> {
  const received = consumer.receive(count);
  const startedMs = performance.now();
  sender.send({ count });
  const { endMs } = await received;
  return perSecond(count, endMs - startedMs);
}
