// The form in which the broker's packets are kept: a line of JSON with the facts, then the payload.

export interface KeptPacket {
  cmd: 'publish';
  topic: string;
  payload: Buffer;
  qos: 0 | 1 | 2;
  retain: boolean;
  dup: boolean;
  /** The packet identifier that its subscriber knows it by. */
  messageId?: number | undefined;
  /** Of the broker that took it, with its counter: how the broker tells copies of one message apart. */
  brokerId?: string;
  brokerCounter?: number;
  clientId?: string;
}

const LINE_END = 0x0a;

export function encodePacket(packet: KeptPacket): Buffer {
  const { topic, qos, retain, brokerId, brokerCounter, clientId } = packet;
  const facts = JSON.stringify({ topic, qos, retain, brokerId, brokerCounter, clientId });
  return Buffer.concat([Buffer.from(`${facts}\n`), packet.payload]);
}

/** Undefined when the bytes are not a packet. */
export function decodePacket(bytes: Uint8Array): KeptPacket | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = buffer.indexOf(LINE_END);
  if (end < 0) return undefined;
  try {
    const facts = JSON.parse(buffer.toString('utf8', 0, end)) as Partial<KeptPacket>;
    if (typeof facts.topic !== 'string' || (facts.qos !== 0 && facts.qos !== 1 && facts.qos !== 2)) return undefined;
    // A copy: the buffer may be a part of something large.
    const payload = Buffer.from(buffer.subarray(end + 1));
    return {
      ...facts,
      cmd: 'publish',
      dup: false,
      topic: facts.topic,
      // Earlier releases kept QoS 2, which no subscriber is sent.
      qos: facts.qos === 0 ? 0 : 1,
      retain: facts.retain === true,
      payload,
    };
  } catch {
    return undefined;
  }
}
