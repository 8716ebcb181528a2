// What comes down over MQTT: direct methods are answered as soon as the device has, messages acknowledged when they are carried out.
//
// Invariants
// - A message is acknowledged (in MQTT: taken from the hub's queue, for good) only after the dispatcher's answer.
// - What comes again because its acknowledgement was lost is not done again: by its message id over restarts, without one as
//   long as the process runs.

import { bagCommand, LIMITS, methodAnswerTopic, parseDeviceTopic, type Clock, type MqttMessage } from '#sdk';
import type { CloudMessage } from './cloud-message.ts';
import type { HubCommands } from './commands.ts';
import type { Incoming } from './mqtt-link.ts';

/** An acknowledgement that left this shortly before the connection ended may not have arrived. */
const UNSURE_MS = 5000;
/** How long the hub may take to send a message again: its lock, and the time until we are back. */
const AGAIN_MS = 600_000;

/** A message, as long as it may come again. */
interface Taken {
  readonly from: Incoming;
  readonly done: Promise<unknown>;
  /** When its acknowledgement left. */
  acknowledgedAtMs: number | undefined;
}

export interface MqttCommands {
  /** Resolves when a message may be acknowledged, or a method is answered. Rejects when the connection ended before. */
  take(message: MqttMessage, from: Incoming): Promise<void>;
}

export function createMqttCommands(commands: HubCommands, clock: Clock): MqttCommands {
  /** By all that they say. */
  const taken = new Map<string, Taken>();
  /** Settles when all messages so far are acknowledged: MQTT acknowledges in order (3.1.1, 4.6). */
  let acknowledged: Promise<unknown> = Promise.resolve();

  async function answerMethod(name: string, requestId: string, payload: Uint8Array, from: Incoming): Promise<void> {
    const { status, body } = await commands.method(name, payload);
    if (!from.publish(methodAnswerTopic(status, requestId), body)) commands.answerLost(name, status);
  }

  /** The same message, when it comes again because its acknowledgement did not arrive. */
  function earlier(key: string, from: Incoming): Taken | undefined {
    const known = taken.get(key);
    // On one connection nothing comes twice: who sends the same again wants it done again.
    if (known === undefined || known.from === from) return undefined;
    const { acknowledgedAtMs } = known;
    if (acknowledgedAtMs === undefined) return known;
    const endedAtMs = known.from.endedAtMs ?? Number.POSITIVE_INFINITY;
    const isUnsure = acknowledgedAtMs > endedAtMs - UNSURE_MS && clock.monotonicMs() - acknowledgedAtMs < AGAIN_MS;
    return isUnsure ? known : undefined;
  }

  async function takeMessage({ topic, payload }: MqttMessage, bag: Bag, from: Incoming): Promise<void> {
    const key = `${topic}\n${payload.toString('base64')}`;
    const done = earlier(key, from)?.done ?? commands.message(messageOf(bag, payload), from.signal);
    const entry: Taken = { from, done, acknowledgedAtMs: undefined };
    taken.delete(key);
    taken.set(key, entry);
    if (taken.size > LIMITS.downlink_commands) taken.delete(taken.keys().next().value ?? '');
    const before = acknowledged;
    acknowledged = done.then(
      () => before,
      // It had not begun when the connection ended: it comes again as if it never had.
      () => {
        if (taken.get(key) === entry) taken.delete(key);
      },
    );
    void acknowledged.then(() => (entry.acknowledgedAtMs = clock.monotonicMs()));
    await done;
  }

  return {
    take(message, from) {
      const topic = parseDeviceTopic(message.topic);
      if (topic?.kind === 'method') return answerMethod(topic.name, topic.requestId, message.payload, from);
      return topic?.kind === 'command' ? takeMessage(message, topic.bag, from) : Promise.resolve();
    },
  };
}

type Bag = ReadonlyMap<string, string | null>;

function messageOf(bag: Bag, body: Uint8Array): CloudMessage {
  const property = (name: string): string | undefined => bag.get(name) ?? undefined;
  const expiresAtMs = Date.parse(property('$.exp') ?? '');
  return {
    messageId: property('$.mid'),
    expiresAtMs: Number.isNaN(expiresAtMs) ? undefined : expiresAtMs,
    property,
    body,
    content: () => bagCommand(bag, body),
  };
}
