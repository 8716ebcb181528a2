// The server's side of MQTT 3.1.1: packets out of a client's bytes, and the packets that a server answers with. Nothing of what
// they mean.

import type { IConnectPacket, ISubscribePacket, IUnsubscribePacket } from 'mqtt-packet';
import { withoutNumberTable } from './mqtt-numbers.ts';

/** Fixed header: the type, and up to four bytes of length (MQTT 3.1.1, 2.2). */
const LENGTH_DIGITS = 4;
const CONNECT = 1;
const PUBLISH = 3;
const MQTT_NAME = Buffer.from([0, 4, 0x4d, 0x51, 0x54, 0x54]);

export interface ClientPublish {
  readonly cmd: 'publish';
  readonly topic: string;
  /** A view of what was read. */
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  readonly dup: boolean;
  /** 0 for QoS 0. */
  readonly messageId: number;
  /** Of the whole packet. */
  readonly packetBytes: number;
}

export type ClientConnect = Pick<
  IConnectPacket,
  'cmd' | 'clientId' | 'protocolVersion' | 'clean' | 'keepalive' | 'username' | 'password' | 'will'
>;

export type ClientPacket =
  | ClientPublish
  | ClientConnect
  | Pick<ISubscribePacket, 'cmd' | 'subscriptions' | 'messageId'>
  | Pick<IUnsubscribePacket, 'cmd' | 'unsubscriptions' | 'messageId'>
  | { readonly cmd: 'puback' | 'pubrec' | 'pubrel' | 'pubcomp'; readonly messageId?: number }
  | { readonly cmd: 'pingreq' | 'disconnect' }
  /** A level that nobody knows, to be answered before the end (3.1.2-2). */
  | { readonly cmd: 'connect_unknown' };

export type PacketFault = 'packet_too_large' | 'malformed_packet' | 'no_connect';

export interface PacketReader {
  /** The packets that these bytes complete, in their order; after a fault nothing more. */
  take(bytes: Buffer): readonly ClientPacket[];
  /** Why the client must go. */
  readonly fault: PacketFault | undefined;
  /** Longest packet from now on, its fixed header left out. A longer one is a fault as soon as its length is read. */
  maxPacketBytes: number;
}

export interface ServerPublish {
  readonly topic: string;
  readonly payload: Uint8Array;
  /** 0: QoS 0. */
  readonly messageId: number;
  readonly dup: boolean;
}

/** Reads and writes packets; made by `loadMqttServer`. */
export interface MqttServerPackets {
  /** For one connection. */
  reader(maxPacketBytes: number): PacketReader;
  publish(packet: ServerPublish): Buffer;
}

/** Loads the library. */
export async function loadMqttServer(): Promise<MqttServerPackets> {
  await withoutNumberTable();
  const { default: packets } = await import('mqtt-packet');

  /** A parser for each packet: one keeps what it is told at CONNECT, and reads past a packet's end into the next. */
  const decode = (frame: Buffer): ClientPacket | undefined => {
    let found: ClientPacket | undefined;
    const parser = packets.parser();
    parser.on('error', () => {});
    parser.on('packet', (packet) => (found = packet as ClientPacket));
    try {
      parser.parse(frame);
    } catch {
      return undefined;
    }
    return found;
  };

  return {
    reader: (maxPacketBytes) => new FrameReader(maxPacketBytes, decode),
    publish: ({ topic, payload, messageId, dup }) =>
      packets.generate({
        cmd: 'publish',
        topic,
        payload: Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength),
        retain: false,
        ...(messageId === 0 ? { qos: 0, dup: false } : { qos: 1, dup, messageId }),
      }),
  };
}

/** @param returnCode of 3.2.2.3; 0: accepted. */
export function connackPacket(returnCode: number, sessionPresent = false): Buffer {
  return Buffer.from([0x20, 2, sessionPresent ? 1 : 0, returnCode]);
}

/** What a client of MQTT 5 reads as "Unsupported Protocol Version" (MQTT 5, 3.2.2.2). */
export function connackVersion5(): Buffer {
  return Buffer.from([0x20, 3, 0, 0x84, 0]);
}

/** PUBACKs of several messages, in their order. */
export function pubackPackets(messageIds: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(messageIds.length * 4);
  let at = 0;
  for (const id of messageIds) {
    bytes.writeUInt16BE(0x4002, at);
    bytes.writeUInt16BE(id, at + 2);
    at += 4;
  }
  return bytes;
}

export function subackPacket(messageId: number, granted: readonly number[]): Buffer {
  return Buffer.from([0x90, ...lengthDigits(2 + granted.length), messageId >> 8, messageId & 0xff, ...granted]);
}

export function unsubackPacket(messageId: number): Buffer {
  return Buffer.from([0xb0, 2, messageId >> 8, messageId & 0xff]);
}

export function pingrespPacket(): Buffer {
  return Buffer.from([0xd0, 0]);
}

function lengthDigits(length: number): readonly number[] {
  return length < 0x80 ? [length] : [(length & 0x7f) | 0x80, ...lengthDigits(length >> 7)];
}

interface Head {
  readonly type: number;
  readonly flags: number;
  /** Where the body begins. */
  readonly from: number;
  readonly to: number;
}

class FrameReader implements PacketReader {
  readonly #decode: (frame: Buffer) => ClientPacket | undefined;
  maxPacketBytes: number;
  fault: PacketFault | undefined;
  #isFirst = true;
  /** Pieces of a packet that is not whole yet, and how many bytes it needs before it is worth looking again. */
  #pieces: Buffer[] = [];
  #have = 0;
  #need = 2;

  constructor(maxPacketBytes: number, decode: (frame: Buffer) => ClientPacket | undefined) {
    this.maxPacketBytes = maxPacketBytes;
    this.#decode = decode;
  }

  take(chunk: Buffer): readonly ClientPacket[] {
    this.#pieces.push(chunk);
    this.#have += chunk.length;
    if (this.#have < this.#need || this.fault !== undefined) return [];
    const bytes = this.#pieces.length === 1 ? chunk : Buffer.concat(this.#pieces, this.#have);
    const found: ClientPacket[] = [];
    let at = 0;
    while (this.fault === undefined) {
      const head = this.#head(bytes, at);
      if (head === undefined) break;
      const packet = head.type === PUBLISH ? readPublish(bytes, at, head) : this.#other(bytes, at, head);
      if (packet === undefined) this.fault = 'malformed_packet';
      else found.push(packet);
      at = head.to;
    }
    this.#pieces = at === bytes.length || this.fault !== undefined ? [] : [bytes.subarray(at)];
    this.#have = bytes.length - at;
    return found;
  }

  /** Of the packet that begins there, once it is whole. */
  #head(bytes: Buffer, at: number): Head | undefined {
    const first = bytes[at];
    this.#need = 2;
    if (first === undefined) return undefined;
    const type = first >> 4;
    // The first packet must be CONNECT (3.1.0-1): what is not MQTT at all ends here.
    if (this.#isFirst && type !== CONNECT) return this.#fail('no_connect');
    let length = 0;
    let from = at + 1;
    for (let digit = 0; ; digit += 1, from += 1) {
      if (digit === LENGTH_DIGITS) return this.#fail('malformed_packet');
      const byte = bytes[from];
      if (byte === undefined) {
        this.#need = from - at + 1;
        return undefined;
      }
      length += (byte & 0x7f) * 0x80 ** digit;
      if (byte < 0x80) break;
    }
    from += 1;
    if (length > this.maxPacketBytes) return this.#fail('packet_too_large');
    this.#need = from - at + length;
    if (bytes.length - at < this.#need) return undefined;
    this.#isFirst = false;
    return { type, flags: first & 0x0f, from, to: from + length };
  }

  #fail(fault: PacketFault): undefined {
    this.fault = fault;
    return undefined;
  }

  #other(bytes: Buffer, at: number, { type, from, to }: Head): ClientPacket | undefined {
    const level = bytes[from + MQTT_NAME.length];
    if (type === CONNECT && level !== undefined && from + MQTT_NAME.length < to) {
      const isMqtt = bytes.subarray(from, from + MQTT_NAME.length).equals(MQTT_NAME);
      if (isMqtt && (level < 3 || level > 5)) return { cmd: 'connect_unknown' };
    }
    const packet = this.#decode(bytes.subarray(at, to));
    return packet === undefined || isEmpty(packet) ? undefined : packet;
  }
}

/** Without a filter, which the library lets pass (3.8.3-3, 3.10.3-2), or an identifier (2.3.1-1). */
function isEmpty(packet: ClientPacket): boolean {
  if (packet.cmd === 'subscribe') return packet.subscriptions.length === 0 || packet.messageId === 0;
  return packet.cmd === 'unsubscribe' && (packet.unsubscriptions.length === 0 || packet.messageId === 0);
}

/** Undefined for what is none (3.3). */
function readPublish(bytes: Buffer, at: number, { flags, from, to }: Head): ClientPublish | undefined {
  const qos = (flags >> 1) & 3;
  const isDup = (flags & 8) !== 0;
  if (to - from < 2 || qos === 3 || (qos === 0 && isDup)) return undefined;
  const topicTo = from + 2 + bytes.readUInt16BE(from);
  const payloadFrom = qos === 0 ? topicTo : topicTo + 2;
  if (payloadFrom > to) return undefined;
  const messageId = qos === 0 ? 0 : bytes.readUInt16BE(topicTo);
  if (qos > 0 && messageId === 0) return undefined;
  return {
    cmd: 'publish',
    topic: bytes.toString('utf8', from + 2, topicTo),
    payload: bytes.subarray(payloadFrom, to),
    qos: qos as 0 | 1 | 2,
    retain: (flags & 1) !== 0,
    dup: isDup,
    messageId,
    packetBytes: to - at,
  };
}
