// The value of one group commit. Additive: the header and each record name their own lengths, and what follows their
// fixed part is fields of tag, length and bytes, so that a reader skips what it does not know. Little-endian.
//
// chunk   0 magic u32 | 4 crc32 of all from 8 on u32 | 8 version u8 | 9 clock u8 | 10 header bytes u16 | 12 messages u32
//        16 first offset f64 | 24 log bytes before this chunk f64 | 32 shelf ms f64 | 40 wall ms f64 | 48 monotonic ms f64
//        56 fields (epoch, boot id) | records
// record  0 record bytes u32 | 4 fixed bytes u16 | 6 clock u8 | 7 0 | 8 seq f64 | 16 wall ms f64 | 24 monotonic ms f64
//        32 time at i32 (-1: none) | 36 fields; the body is the last one

import { crc32 } from 'node:zlib';
import type { DeviceId } from '../core/device.ts';
import {
  gatewayMessageId,
  PROPERTY_FIELDPOST_ID,
  type Message,
  type StoredMessage,
  type SystemProperties,
} from '../core/message.ts';
import type { ClockQuality, Timestamp } from '../core/time.ts';
import { ByteWriter } from './byte-writer.ts';

const MAGIC = 0x48_43_50_46;
const VERSION = 1;
const HEADER_FIXED_BYTES = 56;
const RECORD_FIXED_BYTES = 36;

const HEADER_FIELD = { epoch: 1, bootId: 2 } as const;
const FIELD = {
  deviceId: 1,
  bootId: 2,
  hubId: 3,
  moduleId: 4,
  properties: 5,
  systemProperties: 6,
  /** Ids (u16 each) of the only queues that take the message. */
  onlyQueues: 7,
  body: 127,
} as const;

/** Codes on disk: never reused, never renumbered. */
const CLOCK_CODES: readonly ClockQuality[] = ['unknown', 'restored', 'rtc', 'synced'];
const SYSTEM_PROPERTY_CODES: readonly (keyof SystemProperties)[] = [
  'messageId',
  'correlationId',
  'userId',
  'to',
  'absoluteExpiryTime',
  'contentType',
  'contentEncoding',
  'creationTimeUtc',
  'messageSchema',
  'componentName',
];

export interface ChunkHeader {
  readonly firstOffset: number;
  readonly count: number;
  readonly epoch: string;
  /** Bytes of all chunks before this one since the log began. */
  readonly logBytesBefore: number;
  /** The store's own clock at the commit: see shelf-clock.ts. */
  readonly shelfMs: number;
  readonly time: Timestamp;
}

/** A chunk whose checksum held. */
export interface Chunk extends ChunkHeader {
  readonly bytes: Buffer;
  /** Position of each record, and of the end. */
  readonly positions: Uint32Array;
}

/** Bytes of records: what queues count. */
export function chunkRecordBytes(chunk: Chunk): number {
  return chunk.bytes.length - (chunk.positions[0] ?? chunk.bytes.length);
}

export function recordBytes(chunk: Chunk, index: number): number {
  return (chunk.positions[index + 1] ?? 0) - (chunk.positions[index] ?? 0);
}

export function clockCode(clock: ClockQuality): number {
  return Math.max(0, CLOCK_CODES.indexOf(clock));
}

export function clockOfCode(code: number | undefined): ClockQuality {
  return CLOCK_CODES[code ?? 0] ?? 'unknown';
}

/** Encodes one chunk straight into one buffer, which it reuses for the next. */
export class ChunkEncoder {
  readonly #writer = new ByteWriter(64 * 1024);
  #count = 0;
  #epoch = '';
  #bootId = '';

  get count(): number {
    return this.#count;
  }

  start(epoch: string, bootId: string): void {
    const writer = this.#writer;
    this.#count = 0;
    this.#epoch = epoch;
    this.#bootId = bootId;
    writer.reset(HEADER_FIXED_BYTES);
    writer.textField(HEADER_FIELD.epoch, epoch);
    writer.textField(HEADER_FIELD.bootId, bootId);
    writer.setUint16(10, writer.length);
  }

  /** Adds a message with its `seq`; `onlyQueues` when not every queue that takes all takes it. */
  add(message: Message, seq: number, onlyQueues?: readonly number[]): void {
    const writer = this.#writer;
    const start = writer.reserve(RECORD_FIXED_BYTES);
    const { time } = message;
    writer.setUint16(start + 4, RECORD_FIXED_BYTES);
    writer.setUint8(start + 6, clockCode(time.clock));
    writer.setUint8(start + 7, 0);
    writer.setFloat64(start + 8, seq);
    writer.setFloat64(start + 16, time.wallMs);
    writer.setFloat64(start + 24, time.monotonicMs);
    writer.textField(FIELD.deviceId, message.deviceId);
    if (time.bootId !== this.#bootId) writer.textField(FIELD.bootId, time.bootId);
    if (message.hubId !== undefined) writer.textField(FIELD.hubId, message.hubId);
    if (message.moduleId !== undefined) writer.textField(FIELD.moduleId, message.moduleId);
    this.#properties(message.properties);
    this.#systemProperties(message.systemProperties);
    if (onlyQueues !== undefined) {
      const at = writer.openField(FIELD.onlyQueues);
      for (const id of onlyQueues) writer.setUint16(writer.reserve(2), id);
      writer.closeField(at);
    }
    writer.setInt32(start + 32, this.#body(message, seq));
    writer.setUint32(start, writer.length - start);
    this.#count += 1;
  }

  #properties(properties: Readonly<Record<string, string>>): void {
    const writer = this.#writer;
    let at = -1;
    for (const name in properties) {
      if (at < 0) at = writer.openField(FIELD.properties);
      writer.text(name);
      writer.text(properties[name] as string);
    }
    if (at >= 0) writer.closeField(at);
  }

  #systemProperties(properties: SystemProperties): void {
    const writer = this.#writer;
    let at = -1;
    for (let code = 0; code < SYSTEM_PROPERTY_CODES.length; code += 1) {
      const value = properties[SYSTEM_PROPERTY_CODES[code] as keyof SystemProperties];
      if (value === undefined) continue;
      if (at < 0) at = writer.openField(FIELD.systemProperties);
      writer.setUint8(writer.reserve(1), code);
      writer.text(value);
    }
    if (at >= 0) writer.closeField(at);
  }

  /** Writes the body with the identity inserted; returns where its `time` stands, -1 for none. */
  #body(message: Message, seq: number): number {
    const writer = this.#writer;
    const { body, stamps } = message;
    const at = writer.openField(FIELD.body);
    const identityAt = stamps?.identityAt;
    let timeAt = stamps?.timeAt ?? -1;
    if (identityAt === undefined) {
      writer.bytes(body);
    } else {
      const identity = `,"epoch":"${this.#epoch}","seq":${seq}`;
      writer.bytes(body.subarray(0, identityAt));
      writer.ascii(identity);
      writer.bytes(body.subarray(identityAt));
      if (timeAt >= identityAt) timeAt += identity.length;
    }
    writer.closeField(at);
    return timeAt;
  }

  /** The chunk in a buffer of its own. */
  finish(at: Omit<ChunkHeader, 'count' | 'epoch'>): Buffer {
    const writer = this.#writer;
    writer.setUint32(0, MAGIC);
    writer.setUint8(8, VERSION);
    writer.setUint8(9, clockCode(at.time.clock));
    writer.setUint32(12, this.#count);
    writer.setFloat64(16, at.firstOffset);
    writer.setFloat64(24, at.logBytesBefore);
    writer.setFloat64(32, at.shelfMs);
    writer.setFloat64(40, at.time.wallMs);
    writer.setFloat64(48, at.time.monotonicMs);
    writer.setUint32(4, crc32(writer.view().subarray(8)));
    return writer.copy();
  }
}

/** Undefined when the bytes are not a whole, undamaged chunk for that offset. */
export function decodeChunk(bytes: Buffer, firstOffset: number): Chunk | undefined {
  if (bytes.length < HEADER_FIXED_BYTES || bytes.readUInt32LE(0) !== MAGIC) return undefined;
  if (bytes.readUInt32LE(4) !== crc32(bytes.subarray(8))) return undefined;
  const headerBytes = bytes.readUInt16LE(10);
  const count = bytes.readUInt32LE(12);
  if (bytes.readDoubleLE(16) !== firstOffset || headerBytes < HEADER_FIXED_BYTES) return undefined;
  const positions = new Uint32Array(count + 1);
  let position = headerBytes;
  for (let index = 0; index < count; index += 1) {
    positions[index] = position;
    if (position + RECORD_FIXED_BYTES > bytes.length) return undefined;
    position += bytes.readUInt32LE(position);
  }
  positions[count] = position;
  if (position !== bytes.length) return undefined;
  const texts = readTexts(bytes, HEADER_FIXED_BYTES, headerBytes);
  return {
    bytes,
    positions,
    count,
    firstOffset,
    epoch: texts.get(HEADER_FIELD.epoch) ?? '',
    logBytesBefore: bytes.readDoubleLE(24),
    shelfMs: bytes.readDoubleLE(32),
    time: {
      bootId: texts.get(HEADER_FIELD.bootId) ?? '',
      clock: clockOfCode(bytes[9]),
      wallMs: bytes.readDoubleLE(40),
      monotonicMs: bytes.readDoubleLE(48),
    },
  };
}

function readTexts(bytes: Buffer, from: number, to: number): Map<number, string> {
  const texts = new Map<number, string>();
  for (let at = from; at + 5 <= to;) {
    const length = bytes.readUInt32LE(at + 1);
    texts.set(bytes[at] as number, bytes.toString('utf8', at + 5, at + 5 + length));
    at += 5 + length;
  }
  return texts;
}

/** Device, `seq` and the queues of a record, without the rest of it. */
export interface RecordIdentity {
  readonly deviceId: DeviceId;
  readonly seq: number;
  /** Undefined: every queue that takes all. */
  readonly onlyQueues: readonly number[] | undefined;
}

export function decodeIdentity(chunk: Chunk, index: number): RecordIdentity {
  const { bytes } = chunk;
  const start = chunk.positions[index] as number;
  const end = start + bytes.readUInt32LE(start);
  let deviceId = '';
  let onlyQueues: number[] | undefined;
  for (let at = start + bytes.readUInt16LE(start + 4); at < end;) {
    const tag = bytes[at];
    const length = bytes.readUInt32LE(at + 1);
    at += 5;
    if (tag === FIELD.deviceId) deviceId = bytes.toString('latin1', at, at + length);
    else if (tag === FIELD.onlyQueues) onlyQueues = readIds(bytes, at, at + length);
    at += length;
  }
  return { deviceId: deviceId as DeviceId, seq: bytes.readDoubleLE(start + 8), onlyQueues };
}

function readIds(bytes: Buffer, from: number, to: number): number[] {
  const ids: number[] = [];
  for (let at = from; at + 2 <= to; at += 2) ids.push(bytes.readUInt16LE(at));
  return ids;
}

const NO_PROPERTIES = Object.freeze({});

/** The message of a record. Its body is a view of the chunk, not a copy. */
export function decodeRecord(chunk: Chunk, index: number): StoredMessage {
  const { bytes, epoch } = chunk;
  const start = chunk.positions[index] as number;
  const end = start + bytes.readUInt32LE(start);
  const seq = bytes.readDoubleLE(start + 8);
  const timeAt = bytes.readInt32LE(start + 32);
  let deviceId = '' as DeviceId;
  let bootId = chunk.time.bootId;
  let hubId: string | undefined;
  let moduleId: string | undefined;
  let properties: Record<string, string> = NO_PROPERTIES;
  let systemProperties: SystemProperties = NO_PROPERTIES;
  let body: Uint8Array = bytes.subarray(end, end);
  for (let at = start + bytes.readUInt16LE(start + 4); at < end;) {
    const tag = bytes[at];
    const to = at + 5 + bytes.readUInt32LE(at + 1);
    at += 5;
    if (tag === FIELD.body) body = bytes.subarray(at, to);
    else if (tag === FIELD.deviceId) deviceId = bytes.toString('latin1', at, to) as DeviceId;
    else if (tag === FIELD.properties) properties = readProperties(bytes, at, to);
    else if (tag === FIELD.systemProperties) systemProperties = readSystemProperties(bytes, at, to);
    else if (tag === FIELD.bootId) bootId = bytes.toString('utf8', at, to);
    else if (tag === FIELD.hubId) hubId = bytes.toString('utf8', at, to);
    else if (tag === FIELD.moduleId) moduleId = bytes.toString('utf8', at, to);
    at = to;
  }
  const ownId = gatewayMessageId(epoch, deviceId, seq);
  const givenId = systemProperties.messageId;
  return {
    offset: chunk.firstOffset + index,
    seq,
    epoch,
    messageId: givenId ?? ownId,
    message: {
      ...(hubId === undefined ? {} : { hubId }),
      deviceId,
      ...(moduleId === undefined ? {} : { moduleId }),
      body,
      // A message that came with its own id keeps it; ours goes along as a property.
      properties: givenId === undefined ? properties : { ...properties, [PROPERTY_FIELDPOST_ID]: ownId },
      systemProperties,
      time: {
        bootId,
        clock: clockOfCode(bytes[start + 6]),
        wallMs: bytes.readDoubleLE(start + 16),
        monotonicMs: bytes.readDoubleLE(start + 24),
      },
      ...(timeAt < 0 ? {} : { stamps: { timeAt } }),
    },
  };
}

function readProperties(bytes: Buffer, from: number, to: number): Record<string, string> {
  const properties: Record<string, string> = {};
  for (let at = from; at + 4 <= to;) {
    const nameEnd = at + 4 + bytes.readUInt32LE(at);
    const valueEnd = nameEnd + 4 + bytes.readUInt32LE(nameEnd);
    const name = bytes.toString('utf8', at + 4, nameEnd);
    const value = bytes.toString('utf8', nameEnd + 4, valueEnd);
    // An own property even for the name `__proto__`, which a plain assignment would lose.
    if (name === '__proto__') Object.defineProperty(properties, name, { value, enumerable: true });
    else properties[name] = value;
    at = valueEnd;
  }
  return properties;
}

function readSystemProperties(bytes: Buffer, from: number, to: number): SystemProperties {
  const properties: { -readonly [Name in keyof SystemProperties]: string } = {};
  for (let at = from; at + 5 <= to;) {
    const name = SYSTEM_PROPERTY_CODES[bytes[at] as number];
    const end = at + 5 + bytes.readUInt32LE(at + 1);
    if (name !== undefined) properties[name] = bytes.toString('utf8', at + 5, end);
    at = end;
  }
  return properties;
}
