// What subscriptions of an MQTT client bring, and when it is acknowledged.

import type { MqttClient, Packet } from 'mqtt';

/** MQTT 5 properties of a PUBLISH. */
export interface MqttPublishProperties {
  readonly contentType?: string;
  readonly correlationData?: Buffer;
  /** Where the sender wants the answer (MQTT 5, 3.3.2.3.5). */
  readonly responseTopic?: string;
  readonly payloadFormatIndicator?: boolean;
  readonly userProperties?: Record<string, string>;
}

/** A message from a subscription. */
export interface MqttMessage {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  /** The server had kept it, or, of a `fresh` subscription in MQTT 5, its sender wanted it kept. */
  readonly retain: boolean;
  readonly properties: MqttPublishProperties | undefined;
}

/** Messages that may be on their way to their store at once. */
const UNACKNOWLEDGED_MESSAGES = 1024;

/**
 * The library acknowledges when its handler calls back, and hands over the next message only then. Here it goes on at
 * once, and the acknowledgement waits until the message is taken: many are under way, and still answered in order
 * (MQTT 3.1.1, 4.6).
 */
export function takeMessages(client: MqttClient, onMessage: (message: MqttMessage) => Promise<void>): void {
  const inner = client as unknown as { _sendPacket: (packet: Packet, ...rest: unknown[]) => void };
  const send = inner._sendPacket.bind(client);
  /** Settles when all before it are taken. */
  let taken: Promise<void> = Promise.resolve();
  let waiting = 0;
  const waiters: (() => void)[] = [];
  client.handleMessage = (packet, callback) => {
    const { topic, qos, retain, properties } = packet;
    const payload = typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload;
    const stored = onMessage({
      topic,
      payload,
      qos,
      retain,
      properties: properties as MqttPublishProperties | undefined,
    });
    waiting += 1;
    const before = taken;
    taken = stored.then(() => before);
    const done = (): void => {
      waiting -= 1;
      waiters.shift()?.();
    };
    taken.then(done, (error: Error) => {
      done();
      // Without an acknowledgement the server sends it again, on the next connection.
      if (qos > 0) client.stream.destroy(error);
    });
    if (waiting < UNACKNOWLEDGED_MESSAGES) callback();
    else waiters.push(() => callback());
  };
  inner._sendPacket = (packet, ...rest) => {
    if (packet.cmd !== 'puback') return send(packet, ...rest);
    const whenTaken = taken;
    const sent = rest.find((item) => typeof item === 'function') as (() => void) | undefined;
    whenTaken.then(
      () => send(packet),
      () => {},
    );
    sent?.();
  };
}
