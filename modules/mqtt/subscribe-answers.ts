// What the library leaves undone of SUBSCRIBE. It grants QoS 2, which is never delivered, and of filters that stand twice
// in one packet it answers the last only, where each has a code of its own (MQTT 3.1.1, 3.9.3-1).

import type { Client, Subscription } from 'aedes';

/** As the parser gives it. */
interface SubscribePacket {
  readonly cmd: string;
  messageId?: number;
  readonly subscriptions?: Asked[];
}

interface Asked {
  readonly topic: string;
  qos: number;
}

interface Unanswered {
  readonly messageId: number;
  /** In the order of the packet. */
  readonly asked: readonly Readonly<Asked>[];
}

/** What the library keeps of a client and gives no other access to (aedes 1.2, lib/client.js). */
interface ClientParser {
  readonly _parser: { prependListener(event: 'packet', listener: (packet: SubscribePacket) => void): void };
}

const SUBACK = 0x90;
const FAILURE = 0x80;

export class SubscribeAnswers {
  /** By the last subscription of the packet, which the library keeps. */
  readonly #unanswered = new WeakMap<object, Unanswered>();

  /** Sees to the SUBSCRIBEs of a client from now on. */
  watch(client: Client): void {
    (client as Client & ClientParser)._parser.prependListener('packet', (packet) => {
      if (packet.cmd === 'subscribe') this.#prepare(packet);
    });
  }

  /** To be called when the library has carried out a SUBSCRIBE; `granted` has the codes of its SUBACK. */
  answer(granted: readonly Subscription[], client: Client): void {
    const unanswered = granted.map((one) => this.#unanswered.get(one)).find((one) => one !== undefined);
    if (unanswered === undefined) return;
    const codes = new Map<string, number>(granted.map(({ topic, qos }) => [topic, qos]));
    const { messageId, asked } = unanswered;
    const answers = asked.map(({ topic, qos }) => (codes.get(topic) === FAILURE ? FAILURE : qos));
    client.conn.write(Buffer.from([SUBACK, ...lengthOf(2 + answers.length), messageId >> 8, messageId & 0xff]));
    client.conn.write(Buffer.from(answers));
  }

  #prepare(packet: SubscribePacket): void {
    const { messageId, subscriptions = [] } = packet;
    // SUBACK and session say what is delivered (3.8.4-5): for both the library takes the QoS that the packet asks for.
    for (const subscription of subscriptions) subscription.qos = Math.min(subscription.qos, 1);
    const last = subscriptions.at(-1);
    const isRepeated = new Set(subscriptions.map(({ topic }) => topic)).size < subscriptions.length;
    if (!isRepeated || last === undefined || messageId === undefined) return;
    this.#unanswered.set(last, { messageId, asked: subscriptions.map(({ topic, qos }) => ({ topic, qos })) });
    // A packet without an identifier is carried out and not answered.
    delete packet.messageId;
  }
}

/** Remaining length (MQTT 3.1.1, 2.2.3). */
function lengthOf(bytes: number): number[] {
  return bytes < 128 ? [bytes] : [(bytes % 128) | 128, ...lengthOf(Math.floor(bytes / 128))];
}
