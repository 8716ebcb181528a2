// PUBLISH packets as bytes (MQTT 3.1.1, 3.3), for captures of what came in. QoS and packet id are those of one connection and
// left out: every packet stands with QoS 0.

import { withoutNumberTable } from './mqtt-numbers.ts';

export interface PublishPacket {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly retain: boolean;
}

export interface PublishPackets {
  encode(packet: PublishPacket): Buffer;
  /** Undefined for what is not one whole PUBLISH. */
  decode(bytes: Uint8Array): PublishPacket | undefined;
}

/** Loads the library, which a gateway without captures does not pay for. */
export async function loadPublishPackets(): Promise<PublishPackets> {
  await withoutNumberTable();
  const { default: packets } = await import('mqtt-packet');
  const encode = ({ topic, payload, retain }: PublishPacket): Buffer =>
    packets.generate({ cmd: 'publish', qos: 0, dup: false, retain, topic, payload: Buffer.from(payload) });
  return {
    encode,
    decode(bytes) {
      let found: PublishPacket | undefined;
      const parser = packets.parser();
      parser.on('error', () => {});
      parser.on('packet', (packet) => {
        if (packet.cmd !== 'publish') return;
        found = { topic: packet.topic, payload: Buffer.from(packet.payload), retain: packet.retain };
      });
      parser.parse(Buffer.from(bytes));
      // Nothing before it and nothing behind.
      return found !== undefined && encode(found).length === bytes.length ? found : undefined;
    },
  };
}
