// What comes down to a device at the hub: direct methods, answered as soon as the device has, and cloud-to-device messages,
// acknowledged when they are carried out. Those to the gateway's own device name the leaf device that they are for.
//
// Invariants
// - A message is acknowledged (in MQTT: taken from the hub's queue, for good) only after the dispatcher's answer.
// - What comes again because its acknowledgement was lost is not done again: by its message id over restarts, without one as
//   long as the process runs.

import {
  errorText,
  fieldCommand,
  LIMITS,
  methodAnswerTopic,
  parseDeviceTopic,
  PROPERTY_FIELDPOST_COMMAND,
  WRITE,
  type Clock,
  type CommandAnswer,
  type CommandReceiver,
  type DeviceCommand,
  type MqttMessage,
} from '#sdk';
import type { Incoming } from './link.ts';
import { isClockSet } from './refusals.ts';
import { PROPERTY_DEVICE_ID } from './telemetry.ts';

/** How often it is looked whether a device that is away is back, or what was not taken can be. */
const AWAY_MS = 5000;
/** The longest that a message without an expiry waits: the hub's own default. */
const MESSAGE_LIFE_MS = 3_600_000;
/** An acknowledgement that left this shortly before the connection ended may not have arrived. */
const UNSURE_MS = 5000;
/** How long the hub may take to send a message again: its lock, and the time until we are back. */
const AGAIN_MS = 600_000;
/** Of a message id, so that it can be the id of a command. */
const ID_CHARS = 100;

export interface HubCommandsOptions {
  readonly gatewayId: string;
  /** The leaf device that all of it is for; undefined: it comes to the gateway's own device. */
  readonly leafId?: string;
  readonly clock: Clock;
  readonly receiver: CommandReceiver;
}

/** A message, as long as it may come again. */
interface Taken {
  readonly from: Incoming;
  readonly done: Promise<void>;
  /** When its acknowledgement left. */
  acknowledgedAtMs: number | undefined;
}

export interface HubCommands {
  /** Resolves when a message may be acknowledged, or a method is answered. Rejects when the connection ended before. */
  take(message: MqttMessage, from: Incoming): Promise<void>;
}

export function createHubCommands({ gatewayId, leafId, clock, receiver }: HubCommandsOptions): HubCommands {
  /** By all that they say. */
  const taken = new Map<string, Taken>();
  /** Settles when all messages so far are acknowledged: MQTT acknowledges in order (3.1.1, 4.6). */
  let acknowledged: Promise<unknown> = Promise.resolve();

  async function callMethod(name: string, payload: Uint8Array): Promise<CommandAnswer> {
    try {
      return await receiver.run(
        leafId === undefined ? methodCommand(name, payload) : fieldCommand(leafId, name, payload),
        {},
      );
    } catch (error) {
      return { status: 400, code: 'GW_MESSAGE_INVALID', reason: errorText(error) };
    }
  }

  function answerOf(name: string, payload: Uint8Array): Promise<Pick<CommandAnswer, 'status'>> {
    if (leafId !== undefined || METHODS.has(name)) return callMethod(name, payload);
    return Promise.resolve(name === PING ? { status: 200, gateway: gatewayId } : unknownMethod(name));
  }

  async function answerMethod(name: string, requestId: string, payload: Uint8Array, from: Incoming): Promise<void> {
    const { status, ...rest } = await answerOf(name, payload);
    if (!from.publish(methodAnswerTopic(status, requestId), Buffer.from(JSON.stringify(rest)))) {
      receiver.onIgnored('answer_not_sent', { device: leafId ?? gatewayId, method: name, status });
    }
  }

  async function carryOut(bag: Bag, body: Uint8Array, from: Incoming): Promise<void> {
    const deviceId = leafId ?? bag.get(PROPERTY_DEVICE_ID) ?? '';
    const messageId = bag.get('$.mid') ?? undefined;
    let command: DeviceCommand;
    try {
      command = fieldCommand(deviceId, bag.get(PROPERTY_FIELDPOST_COMMAND) ?? WRITE, body);
    } catch (error) {
      receiver.onIgnored('not_a_command', { device: deviceId, id: messageId, error: errorText(error) });
      return;
    }
    const expiresAtMs = Date.parse(bag.get('$.exp') ?? '');
    const endsAtMs = clock.monotonicMs() + MESSAGE_LIFE_MS;
    const id = messageId === undefined || messageId.length > ID_CHARS ? undefined : `c2d.${messageId}`;
    for (;;) {
      if (!receiver.isAway(deviceId)) {
        const { status } = await receiver.run(command, { id });
        // Else not taken, and nothing is remembered of it.
        if (status !== 429 && status !== 503) return;
      }
      // The hub hands out nothing that has expired by its clock: ours counts for what has waited here, if it is set.
      const isExpired = isClockSet(clock) && clock.wallMs() >= expiresAtMs;
      if (isExpired || clock.monotonicMs() >= endsAtMs) {
        receiver.onIgnored('expired', { device: deviceId, id: messageId });
        return;
      }
      await clock.sleep(AWAY_MS, from.signal);
    }
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

  function takeMessage({ topic, payload }: MqttMessage, bag: Bag, from: Incoming): Promise<void> {
    const key = `${topic}\n${payload.toString('base64')}`;
    const done = earlier(key, from)?.done ?? carryOut(bag, payload, from);
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
    return done;
  }

  return {
    take(message, from) {
      const topic = parseDeviceTopic(message.topic);
      if (topic === undefined) return Promise.resolve();
      if (topic.kind === 'method') return answerMethod(topic.name, topic.requestId, message.payload, from);
      return takeMessage(message, topic.bag, from);
    },
  };
}

type Bag = ReadonlyMap<string, string | null>;

const PING = 'ping';
const WRITE_POINT = 'writePoint';
const INVOKE_ACTION = 'invokeAction';
const METHODS: ReadonlySet<string> = new Set([WRITE_POINT, INVOKE_ACTION]);

function unknownMethod(name: string): CommandAnswer {
  const reason = `The gateway has no method "${name.slice(0, 128)}"; it has ${[PING, ...METHODS].join(', ')}.`;
  return { status: 404, code: 'GW_NOT_FOUND', reason };
}

/**
 * `writePoint` with `{"device_id":…,"values":{…}}`, `invokeAction` with `{"device_id":…,"action":…,"payload":…}`.
 * @throws an Error that says what is wrong.
 */
function methodCommand(name: string, payload: Uint8Array): DeviceCommand {
  const { device_id: deviceId, action, values, payload: given } = objectOf(payload);
  if (typeof deviceId !== 'string') throw new Error('The payload has no "device_id".');
  if (name === WRITE_POINT) {
    if (values === undefined) throw new Error('The payload has no "values".');
    return fieldCommand(deviceId, WRITE, payload);
  }
  if (typeof action !== 'string' || action === '') throw new Error('The payload has no "action".');
  return { kind: 'action', deviceId, action, ...(given !== undefined && { payload: given }) };
}

function objectOf(payload: Uint8Array): Readonly<Record<string, unknown>> {
  let body: unknown;
  try {
    body = JSON.parse(Buffer.from(payload).toString('utf8'));
  } catch {
    throw new Error('The payload is not JSON.');
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw new Error('The payload is no object.');
  return body as Readonly<Record<string, unknown>>;
}
