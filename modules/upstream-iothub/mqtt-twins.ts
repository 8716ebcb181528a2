// The twin of one identity over MQTT: requests and their answers by topics (contract/device-mqtt.md, section 7).

import {
  DESIRED_FILTER,
  GatewayError,
  parseDeviceTopic,
  TWIN_RESPONSE_FILTER,
  twinGetTopic,
  twinReportTopic,
  type Clock,
  type DeviceId,
  type MqttMessage,
  type TwinAnswer,
  type TwinLink,
  type TwinReceiver,
} from '#sdk';
import type { Incoming } from './mqtt-link.ts';

/** Desired properties first: what changes behind the answer to a request must not be missed. */
export const TWIN_FILTERS = [
  [DESIRED_FILTER, 0],
  [TWIN_RESPONSE_FILTER, 0],
] as const;

const ANSWER_MS = 30_000;
/** As the SDKs send for Node and Python. */
const NO_BODY = Buffer.from(' ');

export interface MqttTwinsOptions {
  readonly deviceId: DeviceId;
  readonly carries: TwinLink['carries'];
  readonly receiver: TwinReceiver;
  readonly clock: Clock;
}

export interface MqttTwins {
  /** All filters are subscribed on a new connection. */
  open(from: Incoming): void;
  /** Whether the message was one of twins. */
  take(message: MqttMessage): boolean;
}

export function createMqttTwins({ deviceId, carries, receiver, clock }: MqttTwinsOptions): MqttTwins {
  /** By the ids of their requests; one is under way on a connection. */
  const waiting = new Map<string, (answer: TwinAnswer) => void>();
  let requests = 0;
  let link: TwinLink | undefined;

  async function ask(from: Incoming, topicOf: (requestId: string) => string, body: Uint8Array): Promise<TwinAnswer> {
    const requestId = String((requests += 1));
    const answered = Promise.withResolvers<TwinAnswer>();
    const onEnd = (): void =>
      answered.reject(new GatewayError('GW_DISCONNECTED', 'The connection ended before the answer.'));
    const cancel = clock.after(ANSWER_MS, () =>
      answered.reject(new GatewayError('GW_TIMEOUT', `The hub did not answer for the twin within ${ANSWER_MS} ms.`)),
    );
    waiting.set(requestId, answered.resolve);
    from.signal.addEventListener('abort', onEnd, { once: true });
    try {
      if (!from.publish(topicOf(requestId), body)) onEnd();
      return await answered.promise;
    } finally {
      cancel();
      waiting.delete(requestId);
      from.signal.removeEventListener('abort', onEnd);
    }
  }

  return {
    open(from) {
      link = {
        deviceId,
        signal: from.signal,
        carries,
        get: () => ask(from, twinGetTopic, NO_BODY),
        report: (patch) => ask(from, twinReportTopic, patch),
      };
      receiver.onLink(link);
    },
    take({ topic, payload }) {
      const parsed = parseDeviceTopic(topic);
      if (parsed?.kind === 'twin-response') waiting.get(parsed.requestId)?.({ status: parsed.status, body: payload });
      else if (parsed?.kind !== 'desired') return false;
      else if (link !== undefined) receiver.onDesired(link, payload, parsed.version);
      return true;
    },
  };
}
