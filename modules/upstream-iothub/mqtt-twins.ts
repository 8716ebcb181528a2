// The twin of one identity over MQTT: requests and their answers by topics (contract/device-mqtt.md, section 7).

import {
  DESIRED_FILTER,
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
import { createTwinRequests } from './twin-requests.ts';

/** Desired properties first: what changes behind the answer to a request must not be missed. */
export const TWIN_FILTERS = [
  [DESIRED_FILTER, 0],
  [TWIN_RESPONSE_FILTER, 0],
] as const;

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
  const requests = createTwinRequests(clock);
  let link: TwinLink | undefined;

  const ask = (from: Incoming, topicOf: (requestId: string) => string, body: Uint8Array): Promise<TwinAnswer> =>
    requests.ask(from.signal, (requestId) => from.publish(topicOf(requestId), body));

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
      if (parsed?.kind === 'twin-response')
        requests.answered(parsed.requestId, { status: parsed.status, body: payload });
      else if (parsed?.kind !== 'desired') return false;
      else if (link !== undefined) receiver.onDesired(link, payload, parsed.version);
      return true;
    },
  };
}
