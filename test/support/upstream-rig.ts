// An outbox in memory, a transport and its runner against a real broker, with a subscriber that notes what arrives.

import mqtt, { type MqttClient } from 'mqtt';
import type { Endpoint, EndpointContext, UpstreamTransport } from '../../src/core/endpoint.ts';
import { parseDeviceId } from '../../src/core/device.ts';
import type { Clock } from '../../src/core/clock.ts';
import type { Logger } from '../../src/core/log.ts';
import type { Message, StoredMessage } from '../../src/core/message.ts';
import type { Outbox, OutboxQueue, OutboxSettings } from '../../src/core/outbox.ts';
import type { EventName, Telemetry } from '../../src/observe/events.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { createMemoryOutbox } from '../../src/store/memory-outbox.ts';
import {
  createEndpointRunner,
  type EndpointRunner,
  type EndpointRunnerOptions,
} from '../../src/upstream/endpoint-runner.ts';
import { mqttUpstreamConfig, type MqttUpstreamConfig } from '../../modules/upstream-mqtt/config.ts';
import { createMqttTransport } from '../../modules/upstream-mqtt/transport.ts';
import { message } from './builders.ts';
import { waitFor } from './wait.ts';

export const GATEWAY_ID = parseDeviceId('gateway-1');

const SETTINGS: OutboxSettings = {
  maxBytes: 1 << 30,
  maxAgeSecs: 0,
  minFreeBytes: 0,
  whenFull: 'drop_oldest',
  commitIntervalMs: 0,
  pollCommitIntervalMs: 0,
};

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => SILENT };

export interface Emitted {
  readonly name: EventName;
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface RecordingTelemetry extends Telemetry {
  readonly events: readonly Emitted[];
  of(name: EventName): readonly Emitted[];
}

export function recordingTelemetry(): RecordingTelemetry {
  const events: Emitted[] = [];
  return {
    events,
    emit: (name, fields = {}) => void events.push({ name, fields }),
    of: (name) => events.filter((event) => event.name === name),
  };
}

export const clock = new SystemClock();

export function endpointContext(endpointName = '$upstream'): EndpointContext {
  return { endpointName, gatewayId: GATEWAY_ID, clock, log: SILENT };
}

export function mqttTransport(config: Partial<MqttUpstreamConfig> & { url: string }): UpstreamTransport {
  return createMqttTransport(mqttUpstreamConfig.parse(config), endpointContext());
}

/** A message as the outbox gives it out. */
export function stored(text: string, seq = 1, fields: Partial<Message> = {}): StoredMessage {
  const { deviceId } = message(fields);
  const messageId = `abcd.${deviceId}.${seq}`;
  return { offset: seq, seq, epoch: 'abcd', messageId, message: message({ text, ...fields }) };
}

export function memoryOutbox(order: 'live_first' | 'strict' = 'live_first'): Outbox {
  return createMemoryOutbox({
    gatewayId: GATEWAY_ID,
    clock,
    random: systemRandom,
    settings: SETTINGS,
    queues: [{ name: '$upstream', takes: 'all', order }],
  });
}

export interface UpstreamRig extends AsyncDisposable {
  readonly outbox: Outbox;
  readonly runner: EndpointRunner;
  readonly telemetry: RecordingTelemetry;
  /** Stores messages with the texts `PREFIXn`, one commit each `batch`; returns the texts. */
  append(count: number, prefix?: string, fields?: Partial<Message>): Promise<string[]>;
  /** Resolves once nothing waits in the queue. */
  drained(timeoutMs?: number): Promise<void>;
}

/** The system's clock with waits a hundredth as long; what the system decides (deadlines of I/O) must not depend on it. */
export const hastyClock: Clock = {
  bootId: clock.bootId,
  wallMs: () => clock.wallMs(),
  monotonicMs: () => clock.monotonicMs(),
  quality: () => clock.quality(),
  now: () => clock.now(),
  sleep: (ms, signal) => clock.sleep(ms / 100, signal),
  after: (ms, callback) => clock.after(ms, callback),
};

/** The system's clock, which keeps how long each wait was to be. */
export function clockOfWaits(): { readonly clock: Clock; readonly waitsMs: readonly number[] } {
  const waitsMs: number[] = [];
  const sleep = (ms: number, signal?: AbortSignal): Promise<void> => {
    waitsMs.push(ms);
    return clock.sleep(ms, signal);
  };
  return { clock: { ...hastyClock, sleep }, waitsMs };
}

/** The system's clock, on which no wait ends before `go` is called: shows whether anything waits at all. */
export function heldClock(): { readonly clock: Clock; readonly go: () => void } {
  const gone = Promise.withResolvers<void>();
  const sleep = async (ms: number, signal?: AbortSignal): Promise<void> => {
    await Promise.race([gone.promise, clock.sleep(3_600_000, signal)]);
    await hastyClock.sleep(ms, signal);
  };
  return { clock: { ...hastyClock, sleep }, go: () => gone.resolve() };
}

export function startRig(
  endpoint: Endpoint,
  order: 'live_first' | 'strict' = 'live_first',
  runnerClock: Clock = clock,
  throughQueue: (queue: OutboxQueue) => OutboxQueue = (queue) => queue,
  more: Partial<EndpointRunnerOptions> = {},
): UpstreamRig {
  const outbox = memoryOutbox(order);
  const telemetry = recordingTelemetry();
  const queue = outbox.queue('$upstream');
  const runner = createEndpointRunner({
    name: '$upstream',
    endpoint,
    queue: throughQueue(queue),
    order,
    clockOffset: (bootId) => outbox.clockOffset(bootId),
    clock: runnerClock,
    random: systemRandom,
    telemetry,
    ...more,
  });
  void runner.start(new AbortController().signal);
  return {
    outbox,
    runner,
    telemetry,
    append: async (count, prefix = 'm', fields = {}) => {
      const texts = Array.from({ length: count }, (_, index) => `${prefix}${index}`);
      await outbox.append(texts.map((text) => ({ message: message({ text, ...fields }), queues: [] })));
      return texts;
    },
    drained: async (timeoutMs = 20_000) => {
      await waitFor(() => queue.stats().messages === 0, { timeoutMs, what: 'the queue to drain' });
    },
    [Symbol.asyncDispose]: async () => {
      await runner.stop(AbortSignal.timeout(2000));
      await outbox.close();
    },
  };
}

export interface Received {
  readonly topic: string;
  readonly text: string;
  readonly payload: Buffer;
  readonly contentType: string | undefined;
  readonly correlationData: Buffer | undefined;
  readonly userProperties: Readonly<Record<string, unknown>>;
}

export interface Subscriber extends AsyncDisposable {
  readonly received: readonly Received[];
  texts(): string[];
}

/** Subscribes with QoS 1 and a session that outlives connections, and comes back at once after each loss. */
export async function subscribe(url: string, options: mqtt.IClientOptions = {}): Promise<Subscriber> {
  const received: Received[] = [];
  const client: MqttClient = mqtt.connect(url, {
    protocolVersion: 5,
    clean: false,
    clientId: `witness-${systemRandom.id(8)}`,
    reconnectPeriod: 50,
    properties: { sessionExpiryInterval: 3600 },
    ...options,
  });
  client.on('error', () => {});
  client.on('message', (topic, payload, packet) => {
    received.push({
      topic,
      text: payload.toString(),
      payload,
      contentType: packet.properties?.contentType,
      correlationData: packet.properties?.correlationData,
      userProperties: { ...packet.properties?.userProperties },
    });
  });
  await waitFor(() => client.connected, { what: 'the subscriber to connect' });
  await client.subscribeAsync('#', { qos: 1 });
  return {
    received,
    texts: () => received.map(({ text }) => text),
    [Symbol.asyncDispose]: () => client.endAsync(true),
  };
}
